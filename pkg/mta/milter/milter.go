// Package milter shows messages to a content filter that speaks Sendmail's
// milter protocol, version 6: SpamAssassin, ClamAV, rspamd and their like.
//
// The filter is asked once, at the end of the message, when all is known. It
// may refuse, add fields, and suspect; it may not change sender, recipients or
// body, nor make a message vanish: what it wants to discard or quarantine is
// filed into Junk.
package milter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-milter"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/mta"
)

// Options of New.
type Options struct {
	// Network and Address are where the filter listens: "unix" and a path, or
	// "tcp" and host:port.
	Network, Address string
	// Timeout bounds one message; 0: 60 seconds.
	Timeout time.Duration
	// Open takes a message unfiltered while the filter does not answer;
	// otherwise its sender is told to try again later.
	Open bool
	Log  *slog.Logger
}

// Check asks the filter. It may be used from many goroutines.
type Check struct{ o Options }

var _ mta.Check = (*Check)(nil)

// New returns a Check.
func New(o Options) *Check {
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	return &Check{o}
}

// Check implements mta.Check. Messages of trusted clients are not shown.
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtMessage || !e.Stranger && !e.Session.Submission {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	changes, action, err := c.ask(ctx, e)
	switch {
	case err != nil && c.o.Open:
		c.o.Log.Warn("filter not asked", "host", c.o.Address, "err", err)
		return nil
	case err != nil:
		return mail.TryLater(7, 1, "the content filter does not answer, try again later", err)
	}
	return c.obey(e, changes, action)
}

// obey does what the filter says, as far as it may say it; what it may not is
// in the log.
func (c *Check) obey(e *mta.Evidence, changes []milter.ModifyAction, action *milter.Action) error {
	switch action.Code {
	case milter.ActReject:
		return mail.Refuse(7, 1, "refused by the content filter")
	case milter.ActTempFail:
		return mail.TryLater(7, 1, "the content filter cannot say now, try again later", nil)
	case milter.ActReplyCode:
		return reply(action)
	case milter.ActDiscard:
		e.Suspect("the content filter would discard it")
	}
	for _, m := range changes {
		switch m.Code {
		case milter.ActAddHeader, milter.ActInsertHeader:
			e.AddField(m.HeaderName, m.HeaderValue)
			if strings.EqualFold(m.HeaderName, "X-Spam-Flag") && strings.EqualFold(strings.TrimSpace(m.HeaderValue), "YES") {
				e.Suspect("the content filter takes it for spam")
			}
		case milter.ActQuarantine:
			e.Suspect("the content filter says: " + m.Reason)
		default:
			c.o.Log.Warn("filter may not change that", "host", c.o.Address, "change", string(rune(m.Code)))
		}
	}
	return nil
}

// reply is the filter's own reply; one that is no refusal is transient.
func reply(action *milter.Action) error {
	st := &mail.Status{Code: action.SMTPCode, Enhanced: [3]int{action.SMTPCode / 100, 7, 1}, Text: strings.ToValidUTF8(action.SMTPText, "?")}
	var class, subject, detail int
	if n, _ := fmt.Sscanf(st.Text, "%d.%d.%d ", &class, &subject, &detail); n == 3 && class == st.Code/100 {
		st.Enhanced = [3]int{class, subject, detail}
		_, st.Text, _ = strings.Cut(st.Text, " ")
	}
	st.Text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, st.Text)
	if st.Code < 400 || st.Code > 599 {
		return mail.TryLater(7, 1, "the content filter cannot say now, try again later", fmt.Errorf("it answers %d %s", action.SMTPCode, st.Text))
	}
	return st
}

// dialer hands the connection out, so that it ends with the context and is
// closed however the library fails.
type dialer struct {
	ctx  context.Context
	conn net.Conn
}

// Dial implements milter.Dialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(d.ctx, network, address)
	d.conn = conn
	return conn, err
}

// offered are all changes of the protocol's version 2, which all filters speak:
// one that may not make each of those that it knows will not speak with us at
// all. Which of them are made is
// for obey to say.
const offered = milter.OptAddHeader | milter.OptChangeBody | milter.OptAddRcpt | milter.OptRemoveRcpt | milter.OptChangeHeader |
	milter.OptQuarantine

// ask shows the message to the filter and returns its last word.
func (c *Check) ask(ctx context.Context, e *mta.Evidence) ([]milter.ModifyAction, *milter.Action, error) {
	d := &dialer{ctx: ctx}
	client := milter.NewClientWithOptions(c.o.Network, c.o.Address, milter.ClientOptions{Dialer: d,
		ReadTimeout: c.o.Timeout, WriteTimeout: c.o.Timeout, ActionMask: offered})
	session, err := client.Session()
	if d.conn != nil {
		defer d.conn.Close()
		defer context.AfterFunc(ctx, func() { d.conn.Close() })()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("asking the filter: %w", err)
	}
	defer session.Close()
	action, err := envelope(session, e)
	if err != nil || action.Code != milter.ActContinue {
		return nil, action, err
	}
	if action, err = header(session, e.Header.Block); err != nil || action.Code != milter.ActContinue {
		return nil, action, err
	}
	rc, err := e.Body.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	if _, err := io.CopyN(io.Discard, rc, int64(len(e.Header.Block))); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("reading the message: %w", err)
	}
	changes, action, err := session.BodyReadFrom(rc)
	if err != nil {
		return nil, nil, fmt.Errorf("asking the filter: %w", err)
	}
	return changes, action, nil
}

// envelope tells who sends what to whom, until the filter has its opinion.
func envelope(s *milter.ClientSession, e *mta.Evidence) (*milter.Action, error) {
	client := e.Session.Client.Addr
	ip := client.Addr().Unmap().WithZone("")
	family := milter.FamilyInet
	switch {
	case !ip.IsValid():
		family = milter.FamilyUnknown
	case ip.Is6():
		family = milter.FamilyInet6
	}
	steps := []func() (*milter.Action, error){
		func() (*milter.Action, error) { return s.Conn("["+ip.String()+"]", family, client.Port(), ip.String()) },
		func() (*milter.Action, error) { return s.Helo(e.Session.Helo) },
		func() (*milter.Action, error) { return s.Mail(e.Sender.From.String(), nil) },
	}
	for _, r := range e.Recipients {
		steps = append(steps, func() (*milter.Action, error) { return s.Rcpt(r.Address.String(), nil) })
	}
	if e.Session.Identity != nil {
		if err := s.Macros(milter.CodeMail, "{auth_authen}", e.Session.Identity.Login); err != nil {
			return nil, fmt.Errorf("asking the filter: %w", err)
		}
	}
	return all(steps)
}

func header(s *milter.ClientSession, block []byte) (*milter.Action, error) {
	var steps []func() (*milter.Action, error)
	for f := range mime.Fields(block) {
		if f.Name == "" {
			continue
		}
		_, value, _ := strings.Cut(string(f.Raw), ":")
		value = strings.TrimPrefix(strings.TrimSuffix(strings.ReplaceAll(value, "\r\n", "\n"), "\n"), " ")
		steps = append(steps, func() (*milter.Action, error) { return s.HeaderField(f.Name, value) })
	}
	return all(append(steps, s.HeaderEnd))
}

// all takes steps until one is answered by anything but "continue".
func all(steps []func() (*milter.Action, error)) (*milter.Action, error) {
	action := &milter.Action{Code: milter.ActContinue}
	for _, step := range steps {
		var err error
		if action, err = step(); err != nil {
			return nil, fmt.Errorf("asking the filter: %w", err)
		}
		if action.Code != milter.ActContinue {
			break
		}
	}
	return action, nil
}
