package cmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
)

type checkOptions struct {
	config           configFlag
	imap, submission string
	domain           string
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check",
		Short: "Run the three use cases against the running installation, step by step",
		Long: `Make two users for the moment, log in, list, send, read and delete with other
people's IMAP and SMTP clients, and remove it all again. Exit code 1 names the
step that failed and its likely cause.`,
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
	c.Flags().StringVar(&o.imap, "imap", "", "address of the MMP's IMAP with STARTTLS (default: from the file)")
	c.Flags().StringVar(&o.submission, "submission", "", "address of the submission port (default: from the file)")
	c.Flags().StringVar(&o.domain, "domain", "", "domain of the users that are made (default: directory.default_domain)")
	return c
}

// check is one run: its users, and what the steps share.
type check struct {
	o               checkOptions
	tls             *tls.Config
	sender, taker   string
	secret, secret2 string
	client          *imapclient.Client
	subject         string
}

// checkStep is one step of a use case and what is wrong, most likely, if it fails.
type checkStep struct {
	name, cause string
	run         func(ctx context.Context) error
}

func runCheck(ctx context.Context, o checkOptions, cfg config.Config, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if o.imap == "" {
		o.imap = dialable(cfg.MMP.IMAP.Listen)
	}
	if o.submission == "" {
		o.submission = dialable(cfg.MTA.Submission.Listen)
	}
	if o.domain == "" {
		o.domain = cfg.Directory.DefaultDomain
	}
	if o.imap == "" || o.submission == "" || o.domain == "" {
		return usageError{errors.New("the file does not say all of it: give --imap, --submission and --domain")}
	}
	p, done, err := openProvisioner(ctx, cfg)
	if err != nil {
		return fmt.Errorf("step 0, reaching the directory: %w", err)
	}
	defer done()
	tag := "check-" + randomPassword()[:8]
	c := &check{o: o, sender: tag + "-a@" + o.domain, taker: tag + "-b@" + o.domain, secret: randomPassword(), secret2: randomPassword(), subject: tag}
	if c.tls, err = checkTLS(cfg); err != nil {
		return err
	}
	defer func() {
		if c.client != nil {
			c.client.Close()
		}
		clean, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer stop()
		for _, u := range []string{c.sender, c.taker} {
			if e := p.DeleteUser(clean, u); e != nil && err == nil {
				err = fmt.Errorf("cleaning up: %w", e)
			}
		}
	}()
	if err := errors.Join(p.AddUser(ctx, c.sender, "", c.secret, ""), p.AddUser(ctx, c.taker, "", c.secret2, "")); err != nil {
		return fmt.Errorf("step 0, making users: %w", err)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintln(t, "STEP\tRESULT\tTIME")
	for _, s := range c.steps() {
		start := time.Now()
		err := s.run(ctx)
		took := time.Since(start).Round(10 * time.Microsecond)
		if err != nil {
			fmt.Fprintf(t, "%s\tFAILED\t%s\n", s.name, took)
			return fmt.Errorf("step %q failed: %w; likely cause: %s", s.name, err, s.cause)
		}
		fmt.Fprintf(t, "%s\tok\t%s\n", s.name, took)
	}
	return nil
}

func (c *check) steps() []checkStep {
	return []checkStep{
		{"1.1 a wrong password is refused", "the MMP does not verify passwords", func(ctx context.Context) error {
			client, err := c.dial(ctx)
			if err != nil {
				return err
			}
			defer client.Close()
			if client.Login(c.taker, "wrong").Wait() == nil {
				return errors.New("it was let in")
			}
			return nil
		}},
		{"1.2 log in through the MMP", "the directory, or the user's store (mailHost, mmp.stores), cannot be reached", func(ctx context.Context) (err error) {
			if c.client, err = c.dial(ctx); err != nil {
				return err
			}
			return c.client.Login(c.taker, c.secret2).Wait()
		}},
		{"1.4 list the inbox", "the store refuses the account", func(context.Context) error { return c.expect("INBOX", 0) }},
		{"3.1 send a message", "submission, its AUTH, or the way from the MTA to the store (mta.stores)", c.send},
		{"3.6 it is in the recipient's inbox", "the message waits in the queue: see the MTA's log", func(context.Context) error { return c.expect("INBOX", 1) }},
		{"2.1 read it", "the store lost what it acknowledged", c.read},
		{"2.5 delete it", "the store cannot write", func(context.Context) error { return c.delete() }},
		{"2.8 it is gone", "the deletion was not durable", func(context.Context) error { return c.expect("INBOX", 0) }},
		{"3.7 the sender has a copy in Sent", "mta.sent is off, or the sender's store cannot be reached", func(ctx context.Context) (err error) {
			c.client.Close()
			if c.client, err = c.dial(ctx); err != nil {
				return err
			}
			if err := c.client.Login(c.sender, c.secret).Wait(); err != nil {
				return err
			}
			if err := c.expect("Sent", 1); err != nil {
				return err
			}
			return c.delete()
		}},
	}
}

func (c *check) dial(ctx context.Context) (*imapclient.Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.o.imap)
	if err != nil {
		return nil, err
	}
	return imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: c.tls})
}

// expect selects the mailbox and counts.
func (c *check) expect(mailbox string, want uint32) error {
	got, err := c.client.Select(mailbox, nil).Wait()
	if err != nil {
		return err
	}
	if got.NumMessages != want {
		return fmt.Errorf("%d messages in %s, not %d", got.NumMessages, mailbox, want)
	}
	return nil
}

func (c *check) send(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.o.submission)
	if err != nil {
		return err
	}
	client, err := smtp.NewClientStartTLS(conn, c.tls)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Auth(sasl.NewPlainClient("", c.sender, c.secret)); err != nil {
		return err
	}
	text := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s\r\n\r\nA message of mailsrv check.\r\n", c.sender, c.taker, c.subject)
	return client.SendMail(c.sender, []string{c.taker}, strings.NewReader(text))
}

func (c *check) read(context.Context) error {
	section := &imap.FetchItemBodySection{}
	messages, err := c.client.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return err
	}
	if len(messages) != 1 || !strings.Contains(string(messages[0].FindBodySection(section)), c.subject) {
		return errors.New("other text came back")
	}
	return nil
}

func (c *check) delete() error {
	if err := c.client.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		return err
	}
	return c.client.Expunge().Close()
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

// checkTLS trusts the server's own certificate, under its own name.
func checkTLS(cfg config.Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cfg.Hostname}
	if cfg.TLS.Cert == "" {
		return c, nil
	}
	pem, err := os.ReadFile(cfg.TLS.Cert)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	c.RootCAs, err = x509.SystemCertPool()
	if err != nil {
		c.RootCAs = x509.NewCertPool()
	}
	c.RootCAs.AppendCertsFromPEM(pem)
	return c, nil
}
