package cmd

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/go-ldap/ldap/v3"
	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/store"
)

type checkOptions struct {
	config           configFlag
	imap, submission string
	domain, ca       string
	json             bool
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check",
		Short: "Run the three use cases against the running installation, step by step",
		Long: `Make two users for the moment, and let other people's LDAP, IMAP and SMTP
clients look them up, log in, list, send, read and delete; then remove it all
again. A line a step says how long it took; the numbers are those of the steps
in the three use cases.

Exit codes: 0 all steps passed; 1 a step failed, and the last lines name it, its
likely cause and what to do; 2 the command line was wrong.`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := o.config.load()
			if err != nil {
				return err
			}
			return runCheck(c.Context(), o, cfg, c.OutOrStdout())
		},
	}
	o.config.add(c)
	c.Flags().StringVar(&o.imap, "imap", "", "host:port of the MMP's IMAP with STARTTLS (default: from the file)")
	c.Flags().StringVar(&o.submission, "submission", "", "host:port of the submission door (default: from the file)")
	c.Flags().StringVar(&o.domain, "domain", "", "domain of the users that are made (default: directory.default_domain)")
	c.Flags().StringVar(&o.ca, "ca", "", "PEM file of the CA to trust (default: tls.cert of the file, and the system's)")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

// check is one run: its users, and what the steps share.
type check struct {
	o               checkOptions
	cfg             config.Config
	trust           *trust
	provisioner     *directory.Provisioner
	made            []string // users to remove again
	closers         []func()
	sender, taker   string
	secret, secret2 string
	subject         string
	dn              string // the taker's entry
	store           string // the users' mail host
	ldap            *ldap.Conn
	client          *imapclient.Client
}

// checkStep is one step of a use case, and where it happens.
type checkStep struct {
	number, name string
	at           place
	run          func(ctx context.Context) error
}

// stepResult is a step as it is printed.
type stepResult struct {
	Step    string  `json:"step"`
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
	Cause   string  `json:"likely_cause,omitempty"`
	Next    string  `json:"what_to_do,omitempty"`
}

// runCheck runs the steps until one fails.
func runCheck(ctx context.Context, o checkOptions, cfg config.Config, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	o.imap = cmp.Or(o.imap, dialable(cfg.MMP.IMAP.Listen))
	o.submission = cmp.Or(o.submission, dialable(cfg.MTA.Submission.Listen))
	o.domain = cmp.Or(o.domain, cfg.Directory.DefaultDomain)
	if o.imap == "" || o.submission == "" || o.domain == "" {
		return usageError{errors.New("the file does not say all of it: give --imap, --submission and --domain")}
	}
	tag := "check-" + randomPassword()[:8]
	c := &check{o: o, cfg: cfg, sender: tag + "-a@" + o.domain, taker: tag + "-b@" + o.domain,
		secret: randomPassword(), secret2: randomPassword(), subject: tag}
	if c.trust, err = newTrust(cfg, o.ca); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.cleanUp(ctx)) }()
	var results []stepResult
	if o.json {
		defer func() {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			err = errors.Join(err, e.Encode(results))
		}()
	} else {
		printStep(out, "STEP", "", "RESULT", "TIME")
	}
	for _, s := range c.steps() {
		start := time.Now()
		err := s.run(ctx)
		took := time.Since(start)
		r := stepResult{Step: s.number, Name: s.name, OK: err == nil, Seconds: took.Seconds()}
		verdict := "ok"
		if err != nil {
			d := c.diagnose(ctx, s.at, err)
			verdict, r.Error, r.Cause, r.Next = "FAILED", err.Error(), d.cause, d.next
			err = fmt.Errorf("step %s (%s) failed: %w\n  likely cause: %s\n  what to do:   %s", s.number, s.name, err, d.cause, d.next)
		}
		if results = append(results, r); !o.json {
			printStep(out, s.number, s.name, verdict, took.Round(10*time.Microsecond).String())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// printStep prints a step when it is over: who waits sees at which.
func printStep(out io.Writer, number, name, verdict, took string) {
	fmt.Fprintf(out, "%-4s %-52s %-6s %12s\n", number, name, verdict, took)
}

// cleanUp removes what the steps made.
func (c *check) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if c.client != nil {
		c.client.Close()
	}
	if c.ldap != nil {
		c.ldap.Close()
	}
	var errs []error
	for _, u := range c.made {
		if err := c.provisioner.DeleteUser(ctx, u); err != nil {
			errs = append(errs, fmt.Errorf("cleaning up: %w; run: mailsrv user delete %s", err, u))
		}
	}
	if err := c.dropAccounts(ctx); err != nil {
		errs = append(errs, fmt.Errorf("cleaning up: %w", err))
	}
	for _, done := range c.closers {
		done()
	}
	return errors.Join(errs...)
}

// dropAccounts removes the users' accounts from their store, where this host may
// do that: it has the store, or is a proxy of it (mmp.stores). Elsewhere they stay,
// as empty as the steps leave them.
func (c *check) dropAccounts(ctx context.Context) error {
	if c.store == "" {
		return nil
	}
	carrier, err := daemon.Carrier(c.cfg, c.store)
	if err != nil {
		return nil
	}
	for _, u := range c.made {
		if err := carrier.Seal(ctx, u, time.Time{}); errors.Is(err, store.ErrNoAccount) {
			continue
		} else if err != nil {
			return err
		}
		if err := carrier.Drop(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// dialable makes the first address that is listened on one to connect to.
func dialable(l config.Listeners) string {
	if len(l) == 0 {
		return ""
	}
	host, port, err := net.SplitHostPort(l[0])
	if err != nil {
		return ""
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// connect dials, and closes the connection when ctx ends: not every client has
// a deadline of its own.
func connect(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
	}
	return conn, err
}

// tls is the trust for one address: the server's own name stands for loopback.
func (c *check) tls(address string) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host == "localhost" || ip != nil {
		host = c.cfg.Hostname
	}
	return c.trust.config(host)
}

// pemFile reads a PEM file; an empty path is no file.
func pemFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	return b, nil
}
