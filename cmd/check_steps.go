package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

// arrival is how long a message may take to the recipient's inbox.
const arrival = 10 * time.Second

// What a step may find wrong without any error of a protocol.
var (
	errLetIn      = errors.New("a wrong password was let in")
	errNoMailHost = errors.New("the entry has no mailHost")
	errNoEntry    = errors.New("the search found no entry")
	errTwoEntries = errors.New("the search found more than one entry")
	errNotThere   = errors.New("the message is not there")
	errStillThere = errors.New("the message is still there")
	errNoTLS      = errors.New("no STARTTLS is offered")
	errOtherText  = errors.New("other text came back than was sent")
	errRelayed    = errors.New("an unknown recipient was accepted")
)

// steps are those of the use cases in the order in which they can be tried: a
// message must be sent before it can be read.
func (c *check) steps() []checkStep {
	dir := place{config.RoleDirectory, "directory.url", c.ldapURL()}
	if c.cfg.Runs(config.RoleDirectory) {
		dir.key = "directory.listen.ldapi"
	}
	front := place{config.RoleMMP, "mmp.imap.listen", c.o.imap}
	store := place{config.RoleStore, "mmp.stores", ""}
	agent := place{config.RoleMTA, "mta.submission.listen", c.o.submission}
	return []checkStep{
		{"0.1", "the directory can be reached", dir, c.reachDirectory},
		{"0.2", "two users can be made", dir, c.makeUsers},
		{"1.1", "the MMP answers, with TLS", front, c.greet},
		{"1.2", "the directory finds the user", dir, c.lookUp},
		{"1.3", "the directory verifies the password, and no other", dir, c.bind},
		{"1.3", "the MMP refuses a wrong password", front, c.wrongPassword},
		{"1.4", "the MMP logs the user in to the store", front, func(context.Context) error { return c.client.Login(c.taker, c.secret2).Wait() }},
		{"1.7", "the store lists the inbox", store, func(context.Context) error { return c.count("INBOX", 0) }},
		{"3.2", "the MTA refuses a wrong password", agent, c.wrongSubmission},
		{"3.4", "the MTA refuses an unknown recipient of ours", agent, c.unknownRecipient},
		{"3.8", "the MTA takes the message", agent, c.send},
		{"3.6", "it is in the recipient's inbox", agent, func(ctx context.Context) error { return c.arrives(ctx, "INBOX") }},
		{"2.3", "the store returns it unchanged", store, c.read},
		{"2.7", "the store confirms its deletion", store, func(context.Context) error { return c.delete() }},
		{"2.8", "it is gone for another session", store, c.gone},
		{"3.7", "the sender has a copy", agent, c.copied},
	}
}

// reachDirectory connects by go-ldap, which says best what is wrong, and as the
// commands do.
func (c *check) reachDirectory(ctx context.Context) (err error) {
	if c.ldap, err = c.dialLDAP(); err != nil {
		return err
	}
	p, done, err := openProvisioner(ctx, c.cfg)
	if err != nil {
		return err
	}
	c.provisioner, c.closers = p, append(c.closers, done)
	return nil
}

func (c *check) makeUsers(ctx context.Context) error {
	for _, u := range []struct{ login, secret string }{{c.sender, c.secret}, {c.taker, c.secret2}} {
		if err := c.provisioner.AddUser(ctx, u.login, "", u.secret, ""); err != nil {
			return err
		}
		c.made = append(c.made, u.login)
	}
	return nil
}

// ldapURL is where the directory answers this host's commands.
func (c *check) ldapURL() string {
	if c.cfg.Runs(config.RoleDirectory) || len(c.cfg.Directory.URLs) == 0 {
		return "ldapi://" + daemon.Socket(c.cfg)
	}
	return c.cfg.Directory.URLs[0]
}

// dialLDAP connects by go-ldap, with TLS as configured: like the roles, it wants
// a certificate for the very host that the URL names.
func (c *check) dialLDAP() (*ldap.Conn, error) {
	at, err := url.Parse(c.ldapURL())
	if err != nil {
		return nil, fmt.Errorf("reading directory.url: %w", err)
	}
	security := c.trust.config(at.Hostname())
	conn, err := ldap.DialURL(at.String(), ldap.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}), ldap.DialWithTLSConfig(security))
	if err != nil {
		return nil, c.trust.blame(err)
	}
	conn.SetTimeout(time.Duration(c.cfg.Directory.Timeout))
	if c.cfg.Directory.StartTLS && at.Scheme == "ldap" {
		if err := conn.StartTLS(security); err != nil {
			conn.Close()
			return nil, c.trust.blame(err)
		}
	}
	return conn, nil
}

// lookUp searches as the other roles do, with their account.
func (c *check) lookUp(context.Context) (err error) {
	if dn := c.cfg.Directory.BindDN; dn == "" || c.cfg.Runs(config.RoleDirectory) {
		err = c.ldap.ExternalBind()
	} else {
		var password []byte
		if password, err = pemFile(c.cfg.Directory.BindPasswordFile); err == nil {
			err = c.ldap.Bind(dn, strings.TrimRight(string(password), "\r\n"))
		}
	}
	if err != nil {
		return err
	}
	found, err := c.ldap.Search(&ldap.SearchRequest{BaseDN: c.cfg.Directory.Suffix, Scope: ldap.ScopeWholeSubtree,
		Filter: "(mail=" + ldap.EscapeFilter(c.taker) + ")", Attributes: []string{"mailHost"}})
	switch {
	case err != nil:
		return err
	case len(found.Entries) == 0:
		return errNoEntry
	case len(found.Entries) > 1:
		return errTwoEntries
	}
	if c.store = cmp.Or(found.Entries[0].GetAttributeValue("mailHost"), c.cfg.MMP.DefaultHost); c.store == "" {
		return errNoMailHost
	}
	c.dn = found.Entries[0].DN
	return nil
}

// bind proves the password as a directory's client does: by a bind as the user.
func (c *check) bind(context.Context) error {
	conn, err := c.dialLDAP()
	if err != nil {
		return err
	}
	defer conn.Close()
	switch err := conn.Bind(c.dn, "wrong"); {
	case err == nil:
		return errLetIn
	case !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials):
		return err
	}
	return conn.Bind(c.dn, c.secret2)
}

// greet connects to the MMP; the connection stays for the login.
func (c *check) greet(ctx context.Context) error {
	client, err := c.dialIMAP(ctx)
	c.client = client
	return err
}

func (c *check) dialIMAP(ctx context.Context) (*imapclient.Client, error) {
	conn, err := connect(ctx, c.o.imap)
	if err != nil {
		return nil, err
	}
	client, err := imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: c.tls(c.o.imap)})
	if err != nil {
		return nil, c.trust.blame(err)
	}
	if err := client.Noop().Wait(); err != nil { // the handshake is the first command's
		client.Close()
		return nil, c.trust.blame(err)
	}
	return client, nil
}

func (c *check) wrongPassword(ctx context.Context) error {
	client, err := c.dialIMAP(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.Login(c.taker, "wrong").Wait()
	if e, ok := errors.AsType[*imap.Error](err); ok && e.Code == imap.ResponseCodeAuthenticationFailed {
		return nil
	}
	if err == nil {
		return errLetIn
	}
	return err
}

// count selects the mailbox and compares.
func (c *check) count(mailbox string, want uint32) error {
	got, err := c.client.Select(mailbox, nil).Wait()
	switch {
	case err != nil:
		return err
	case got.NumMessages < want:
		return fmt.Errorf("%w: %d messages in %s, not %d", errNotThere, got.NumMessages, mailbox, want)
	case got.NumMessages > want:
		return fmt.Errorf("%w: %d messages in %s, not %d", errStillThere, got.NumMessages, mailbox, want)
	}
	return nil
}

// arrives waits for the one message.
func (c *check) arrives(ctx context.Context, mailbox string) error {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	for {
		err := c.count(mailbox, 1)
		if !errors.Is(err, errNotThere) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w after %s", err, arrival)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *check) dialSubmission(ctx context.Context) (*smtp.Client, error) {
	conn, err := connect(ctx, c.o.submission)
	if err != nil {
		return nil, err
	}
	client, err := smtp.NewClientStartTLS(conn, c.tls(c.o.submission))
	if err != nil {
		if err := c.trust.blame(err); !strings.Contains(err.Error(), "support STARTTLS") {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errNoTLS, err) // the library has no better name for it
	}
	if err := client.Noop(); err != nil {
		client.Close()
		return nil, c.trust.blame(err)
	}
	return client, nil
}

func (c *check) wrongSubmission(ctx context.Context) error {
	client, err := c.dialSubmission(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.Auth(sasl.NewPlainClient("", c.sender, "wrong"))
	if e, ok := errors.AsType[*smtp.SMTPError](err); ok && e.Code == 535 {
		return nil
	}
	if err == nil {
		return errLetIn
	}
	return err
}

// submit logs the sender in.
func (c *check) submit(ctx context.Context) (*smtp.Client, error) {
	client, err := c.dialSubmission(ctx)
	if err != nil {
		return nil, err
	}
	if err := client.Auth(sasl.NewPlainClient("", c.sender, c.secret)); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

func (c *check) unknownRecipient(ctx context.Context) error {
	client, err := c.submit(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Mail(c.sender, nil); err != nil {
		return err
	}
	err = client.Rcpt("nobody-"+c.taker, nil)
	if e, ok := errors.AsType[*smtp.SMTPError](err); ok && e.Code == 550 {
		return nil
	}
	if err == nil {
		return errRelayed
	}
	return err
}

func (c *check) send(ctx context.Context) error {
	client, err := c.submit(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	text := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s\r\n\r\nA message of mailsrv check.\r\n", c.sender, c.taker, c.subject)
	return client.SendMail(c.sender, []string{c.taker}, strings.NewReader(text))
}

func (c *check) read(context.Context) error {
	section := &imap.FetchItemBodySection{}
	messages, err := c.client.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return err
	}
	if len(messages) != 1 || !strings.Contains(string(messages[0].FindBodySection(section)), "Subject: "+c.subject+"\r\n\r\nA message of mailsrv check.\r\n") {
		return errOtherText
	}
	return nil
}

func (c *check) delete() error {
	if err := c.client.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		return err
	}
	return c.client.Expunge().Close()
}

// again logs in anew.
func (c *check) again(ctx context.Context, login, secret string) (err error) {
	c.client.Close()
	if c.client, err = c.dialIMAP(ctx); err != nil {
		return err
	}
	return c.client.Login(login, secret).Wait()
}

func (c *check) gone(ctx context.Context) error {
	if err := c.again(ctx, c.taker, c.secret2); err != nil {
		return err
	}
	return c.count("INBOX", 0)
}

// copied looks for the server's copy of what was sent, where it makes one.
func (c *check) copied(ctx context.Context) error {
	if err := c.again(ctx, c.sender, c.secret); err != nil || !c.cfg.MTA.Sent.Enabled {
		return err
	}
	if err := c.arrives(ctx, c.cfg.MTA.Sent.Mailbox); err != nil {
		return err
	}
	return c.delete()
}
