package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

type explainOptions struct {
	config  configFlag
	from    string
	ip      string
	service string
	whatIf  []string
	json    bool
}

func newExplainCommand() *cobra.Command {
	var o explainOptions
	c := &cobra.Command{
		Use:   "explain ADDRESS",
		Short: "Say what would become of mail to an address, and why",
		Long: `Say what would become of mail to an address: every question that the directory
is asked, what decided (attribute, value, entry) and the effect. Nothing is sent.

With --service mx (the default) the message comes from another MTA, with
submission from the user who has the address --from, and with imap it is no
message: ADDRESS logs in to read mail. Checks of strangers (SPF, lists, rates)
are not asked.

Exit codes: 0 it would be taken, 1 refused or not to be told.`,
		Example: `  mailsrv explain info@example.com
  mailsrv explain team@example.com --from bob@example.com --service submission
  mailsrv explain alice@example.com --what-if mailUserStatus=hold`,
		Args: exactly("ADDRESS"),
		RunE: func(c *cobra.Command, args []string) error {
			return runExplain(c.Context(), o, args[0], c.OutOrStdout())
		},
	}
	o.config.add(c)
	c.Flags().StringVar(&o.from, "from", "", "the sender; empty: a bounce")
	c.Flags().StringVar(&o.ip, "ip", "", "address of the client, for rules about service access")
	c.Flags().StringVar(&o.service, "service", "mx", "mx, submission or imap")
	c.Flags().StringArrayVar(&o.whatIf, "what-if", nil, "ATTR=VALUE of the entry of ADDRESS, or of its domain, as if it were so; repeat for more (an empty value: not set)")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

// explanation is what the command prints.
type explanation struct {
	Address   string         `json:"address"`
	Service   string         `json:"service"`
	Questions []explainedAsk `json:"questions"`
	Steps     []explainStep  `json:"steps"`
	Effects   []string       `json:"effects"`
	Refused   string         `json:"refused,omitempty"`
}

type explainedAsk struct {
	Base   string   `json:"base"`
	Scope  string   `json:"scope"`
	Filter string   `json:"filter"`
	Found  []string `json:"found"`
	Error  string   `json:"error,omitempty"`
}

type explainStep struct {
	Subject   string `json:"subject"`
	Finding   string `json:"finding"`
	DN        string `json:"dn,omitempty"`
	Attribute string `json:"attribute,omitempty"`
	Value     string `json:"value,omitempty"`
}

func (x *explanation) step(subject, finding string, f directory.Fact) {
	s := explainStep{Subject: subject, Finding: finding, Attribute: f.Attribute, Value: f.Value}
	if f.Attribute != "" {
		s.DN = f.DN.String()
	}
	x.Steps = append(x.Steps, s)
}

func (x *explanation) record(q directory.Question) {
	a := explainedAsk{Base: q.Query.Base.String(), Scope: [...]string{"base", "one", "sub"}[q.Query.Scope], Filter: q.Query.Filter.String(), Found: []string{}}
	for _, dn := range q.Found {
		a.Found = append(a.Found, dn.String())
	}
	if q.Err != nil {
		a.Error = q.Err.Error()
	}
	x.Questions = append(x.Questions, a)
}

// errRefused is the outcome of an explanation that ends in a refusal, which was
// printed.
var errRefused = errors.New("it would be refused")

func runExplain(ctx context.Context, o explainOptions, address string, out io.Writer) error {
	to, err := mail.ParseAddress(address)
	if err != nil {
		return usageError{err}
	}
	cfg, err := o.config.load()
	if err != nil {
		return err
	}
	client, err := daemon.Dial(ctx, cfg)
	if err != nil {
		return fmt.Errorf("reaching the directory (does mailsrv serve run?): %w", err)
	}
	defer client.Close()
	x := &explanation{Address: to.String(), Service: o.service, Questions: []explainedAsk{}, Steps: []explainStep{}}
	view, err := o.view(ctx, cfg, client, to, x.record)
	if err != nil {
		return err
	}
	switch o.service {
	case "mx", "submission":
		err = o.mail(ctx, cfg, view, to, x)
	case "imap":
		err = o.login(ctx, view, to, x)
	default:
		err = usageError{fmt.Errorf("--service %q is none of mx, submission, imap", o.service)}
	}
	if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(x)
	} else {
		err = x.print(out)
	}
	if err == nil && x.Refused != "" {
		err = errRefused
	}
	return err
}

// view is the mail view of the directory as if --what-if were so; what it asks
// is recorded.
func (o explainOptions) view(ctx context.Context, cfg config.Config, tree directory.Tree, to mail.Address, record func(directory.Question)) (*directory.View, error) {
	where, err := daemon.View(cfg)
	if err != nil {
		return nil, err
	}
	for _, setting := range o.whatIf {
		name, value, ok := strings.Cut(setting, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("--what-if %q is not ATTR=VALUE", setting)}
		}
		changed := directory.WhatIf{Tree: tree, Attributes: []directory.Attribute{{Name: name}}}
		if value != "" {
			changed.Attributes[0].Values = strings.Split(value, ",")
		}
		plain := directory.NewView(tree, where)
		if directory.IsOfDomain(name) {
			d, err := plain.Domain(ctx, to.Domain)
			if err != nil {
				return nil, err
			}
			changed.DN = d.DN
		} else {
			r, err := plain.Recipient(ctx, to)
			if err != nil {
				return nil, err
			}
			changed.DN = r.DN()
		}
		tree = changed
	}
	return directory.NewView(directory.NewRecorder(tree, record), where), nil
}

// mail explains a message to the address.
func (o explainOptions) mail(ctx context.Context, cfg config.Config, view *directory.View, to mail.Address, x *explanation) error {
	q := mta.Inquiry{To: to}
	if o.from != "" {
		var err error
		if q.From, err = mail.ParseAddress(o.from); err != nil {
			return usageError{err}
		}
	}
	if o.service == "submission" {
		r, err := view.Recipient(ctx, q.From)
		if err != nil || r.User == nil {
			return fmt.Errorf("--service submission needs a user's address in --from: %w", errors.Join(err, directory.ErrNotFound))
		}
		q.Login = r.User
		if err := o.access(r.User, directory.ServiceSMTP, x); err != nil || x.Refused != "" {
			return err
		}
	}
	rules, err := daemon.Rules(cfg, view, nil, func(host string) bool { return daemon.IsStore(cfg, host) })
	if err != nil {
		return err
	}
	a := rules.Explain(ctx, q)
	if d := a.Plan.Decision; d.Kind != "" {
		x.step(d.Name, "the domain is "+string(d.Kind), d.Domain.About(directory.AboutName))
	}
	for _, s := range a.Plan.Steps {
		x.step(s.Subject, s.Finding, s.Fact)
	}
	x.Effects = a.Effects
	if a.Err != nil {
		x.Refused = mail.StatusOf(a.Err).Reply()
	}
	return nil
}

// login explains a login that reads mail.
func (o explainOptions) login(ctx context.Context, view *directory.View, who mail.Address, x *explanation) error {
	u, err := view.User(ctx, who.String())
	if err != nil {
		x.Refused = "no such user, or no answer: " + err.Error()
		x.Effects = []string{"login refused"}
		return nil
	}
	if err := o.access(&u, directory.ServiceIMAP, x); err != nil || x.Refused != "" {
		return err
	}
	x.step(u.Account(), "the store is "+u.MailHost, u.About(directory.AboutMailHost))
	quota := map[int64]string{directory.QuotaUnlimited: "no quota", directory.QuotaDefault: "the quota is the system's default"}[u.Quota]
	if quota == "" {
		quota = "the quota is " + strconv.FormatInt(u.Quota, 10) + " bytes"
	}
	x.step(u.Account(), quota, directory.Fact{})
	x.Effects = []string{"logged in to account " + u.Account() + " in the store " + u.MailHost + ", if the password is right"}
	return nil
}

// access judges whether a user may log in to a service.
func (o explainOptions) access(u *directory.User, s directory.Service, x *explanation) error {
	x.step(u.Account(), "the user is "+string(u.Status), u.About(directory.AboutStatus))
	if !u.Status.MayLogin() {
		x.Refused = "the account may not log in"
		x.Effects = []string{"login refused: " + x.Refused}
		return nil
	}
	if o.ip == "" {
		return nil
	}
	ip, err := netip.ParseAddr(o.ip)
	if err != nil {
		return usageError{fmt.Errorf("--ip: %w", err)}
	}
	finding := "service access allows " + string(s) + " from " + ip.String()
	if !u.Allows(s, ip) {
		finding = "service access refuses " + string(s) + " from " + ip.String()
		x.Refused = finding
		x.Effects = []string{"login refused: " + finding}
	}
	x.step(u.Account(), finding, u.About(directory.AboutAccess))
	return nil
}

func (x *explanation) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Asked of the directory:\n")
	for i, q := range x.Questions {
		answer := strconv.Itoa(len(q.Found)) + " found"
		switch {
		case q.Error != "":
			answer = q.Error
		case len(q.Found) == 1:
			answer = q.Found[0]
		}
		fmt.Fprintf(w, "  %d\t%s\t%s\t%s\t-> %s\n", i+1, q.Scope, q.Base, q.Filter, answer)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nDecided:\n")
	for _, s := range x.Steps {
		fmt.Fprintf(w, "  %s\t%s", s.Subject, s.Finding)
		if s.Attribute != "" {
			fmt.Fprintf(w, "\t%s: %s\tin %s", s.Attribute, s.Value, s.DN)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nEffect:\n")
	for _, e := range x.Effects {
		fmt.Fprintf(w, "  %s\n", e)
	}
	return w.Flush()
}
