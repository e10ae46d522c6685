package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// openProvisioner connects to the running directory over LDAP.
func openProvisioner(ctx context.Context, c config.Config) (*directory.Provisioner, func(), error) {
	client, err := daemon.Dial(ctx, c)
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil, fmt.Errorf("reaching the directory (its local socket is for root and the server's user): %w", err)
	} else if err != nil {
		return nil, nil, fmt.Errorf("reaching the directory (does mailsrv serve run?): %w", err)
	}
	view, err := daemon.View(c)
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return directory.NewProvisioner(client, view), func() { client.Close() }, nil
}

// admin holds what the commands on the directory share.
type admin struct {
	kind   directory.Kind // of what a parent command is about
	config configFlag
	json   bool
}

func (a *admin) parent(use, short string) *cobra.Command {
	a.kind = directory.Kind(use)
	c := &cobra.Command{Use: use, Short: short}
	a.config.add(c)
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

// run connects and runs one command.
func (a *admin) run(fn func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cfg, err := a.config.load()
		if err != nil {
			return err
		}
		p, done, err := openProvisioner(c.Context(), cfg)
		if err != nil {
			return err
		}
		defer done()
		err = fn(c.Context(), p, args, c.OutOrStdout())
		if errors.Is(err, directory.ErrDenied) {
			return fmt.Errorf("%w: this host's account may not do that; run the command where the directory role runs, or set directory.bind_dn to its admin_dn", err)
		}
		return err
	}
}

// table prints rows for eyes, or as JSON objects named by the lower-case heads.
func (a *admin) table(out io.Writer, heads []string, rows [][]string) error {
	if a.json {
		list := make([]map[string]string, len(rows))
		for i, r := range rows {
			list[i] = map[string]string{}
			for j, h := range heads {
				list[i][strings.ToLower(h)] = r[j]
			}
		}
		return printJSON(out, list)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

func (a *admin) set(what string) *cobra.Command {
	return &cobra.Command{Use: "set " + what + " NAME=VALUE...", Short: "Change settings, such as status=inactive",
		Long: "Change settings: " + directory.Settings(a.kind) + ". An empty VALUE takes one away; commas separate several.", Args: between(2, -1),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := p.Set(ctx, a.kind, args[0], args[1:]); err != nil {
				return err
			}
			return a.told(out, args[0], "changed", args[0]+" changed", "")
		})}
}

func (a *admin) remove(what string, fn func(*directory.Provisioner, context.Context, string) error) *cobra.Command {
	return &cobra.Command{Use: "delete " + what, Short: "Delete it from the directory", Args: exactly("name"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := fn(p, ctx, args[0]); err != nil {
				return err
			}
			return a.told(out, args[0], "deleted", args[0]+" deleted", "")
		})}
}

func (a *admin) list(groups bool) *cobra.Command {
	return &cobra.Command{Use: "list [DOMAIN]", Short: "List them, of one domain or of all", Args: between(0, 1),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			recipients, err := p.Recipients(ctx, strings.Join(args, ""))
			if err != nil {
				return err
			}
			var rows [][]string
			for _, r := range recipients {
				if groups && r.Group != nil {
					rows = append(rows, []string{r.Group.Mail.String(), string(r.Group.Status), strconv.Itoa(len(r.Group.Members) + len(r.Group.External))})
				} else if !groups && r.User != nil {
					rows = append(rows, []string{r.User.Account(), r.User.Name, string(r.User.Status), r.User.MailHost, quotaText(r.User.Quota)})
				}
			}
			heads := []string{"USER", "NAME", "STATUS", "MAILHOST", "QUOTA"}
			if groups {
				heads = []string{"GROUP", "STATUS", "MEMBERS"}
			}
			return a.table(out, heads, rows)
		})}
}

// show shows a user or a group.
func (a *admin) show() *cobra.Command {
	return &cobra.Command{Use: "show ADDRESS", Short: "Show one of them", Args: exactly("address"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			address, err := mail.ParseAddress(args[0])
			if err != nil {
				return usageError{err}
			}
			r, err := p.Recipient(ctx, address)
			if err != nil {
				return err
			}
			if err := r.Must(a.kind); err != nil {
				return fmt.Errorf("%w; see: mailsrv %s show %s", err, r.Kind(), args[0])
			}
			if u := r.User; u != nil {
				return a.fields(out, userFields(u))
			}
			return a.fields(out, groupFields(r.Group))
		})}
}

// field is one line of what show prints: a name and its values.
type field struct {
	name   string
	values []string
	// many: there may be any number, and JSON has a list.
	many bool
}

func one(name, value string) field { return field{name: name, values: []string{value}} }

func userFields(u *directory.User) []field {
	return []field{one("dn", u.DN.String()), one("mail", u.Mail.String()), one("name", u.Name), one("status", string(u.Status)),
		one("mailhost", u.MailHost), one("quota", quotaText(u.Quota)), {"delivery", u.DeliveryOptions, true},
		{"aliases", texts(slices.Concat(u.Alternates, u.Equivalents)), true}, {"forward", texts(u.ForwardTo), true}}
}

func groupFields(g *directory.Group) []field {
	var members []string
	for _, m := range g.Members {
		members = append(members, m.String())
	}
	return []field{one("dn", g.DN.String()), one("mail", g.Mail.String()), {"member", members, true}, {"external", texts(g.External), true},
		{"aliases", texts(slices.Concat(g.Alternates, g.Equivalents)), true}, one("status", string(g.Status))}
}

// fields prints one entry for eyes, or as one JSON object.
func (a *admin) fields(out io.Writer, list []field) error {
	if a.json {
		object := map[string]any{}
		for _, f := range list {
			if f.many {
				object[f.name] = append([]string{}, f.values...) // never null
			} else {
				object[f.name] = strings.Join(f.values, "")
			}
		}
		return printJSON(out, object)
	}
	var rows [][]string
	for _, f := range list {
		if f.name == "member" { // long names: one a line
			for _, v := range f.values {
				rows = append(rows, []string{f.name, v})
			}
			continue
		}
		rows = append(rows, []string{f.name, strings.Join(f.values, ",")})
	}
	return a.table(out, []string{"ATTRIBUTE", "VALUE"}, rows)
}

func texts(addresses []mail.Address) (s []string) {
	for _, a := range addresses {
		s = append(s, a.String())
	}
	return s
}

func quotaText(q int64) string {
	switch {
	case q == directory.QuotaDefault:
		return "default"
	case q == directory.QuotaUnlimited:
		return "none"
	case q >= 1<<30 && q%(1<<30) == 0:
		return strconv.FormatInt(q>>30, 10) + " GiB"
	case q >= 1<<20 && q%(1<<20) == 0:
		return strconv.FormatInt(q>>20, 10) + " MiB"
	}
	return strconv.FormatInt(q, 10) + " B"
}

// told says what was done to which entry: as a sentence, with the password that
// was made if there is one, or as a JSON object.
func (a *admin) told(out io.Writer, name, done, sentence, password string) error {
	if a.json {
		return printJSON(out, struct {
			Name     string `json:"name"`
			Done     string `json:"done"`
			Password string `json:"password,omitempty"`
		}{name, done, password})
	}
	if password != "" {
		sentence += "; password: " + password
	}
	_, err := fmt.Fprintln(out, sentence)
	return err
}
