package lmtpclient

import (
	"fmt"
	"io"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire/smtpwire"
)

// window is how many RCPT commands are sent before their replies are read:
// neither side may wait for the other to empty its socket.
const window = 100

// staleError says that a connection broke, or was ended by the store, before it
// answered MAIL: it may have died while it was idle.
type staleError struct{ err error }

func (e *staleError) Error() string { return e.err.Error() }
func (e *staleError) Unwrap() error { return e.err }

// transaction is one delivery over one connection.
type transaction struct {
	conn *connection
	env  mail.Envelope
	body mail.Body

	errs     []error
	answered []bool           // by recipient: errs holds the store's answer
	accepted []int            // indices into env.To, in order
	stored   []smtpwire.Reply // by recipient: the answer to the message, if it was a good one
}

// fillIn gives err to the recipients that have no answer.
func (t *transaction) fillIn(err error) {
	for i := range t.errs {
		if i >= len(t.answered) || !t.answered[i] {
			t.errs[i] = err
		}
	}
}

func (t *transaction) answer(i int, r smtpwire.Reply) {
	t.answered[i] = true
	if !r.OK() {
		t.errs[i] = r.Status()
	}
}

func (t *transaction) refuse(i int, st *mail.Status) {
	t.answered[i], t.errs[i] = true, st
}

// run is the whole transaction. With an error the connection is of no more
// use; without one it is between transactions again.
func (t *transaction) run() error {
	t.answered = make([]bool, len(t.env.To))
	if limit := t.conn.ext.MaxSize(); limit > 0 && t.body.Size() > limit {
		t.refuseAll(&mail.Status{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: "message too large for the store"})
		return nil
	}
	utf8 := t.conn.ext.Has(smtpwire.ExtUTF8)
	if !utf8 && !t.env.From.IsASCII() {
		t.refuseAll(errUTF8)
		return nil
	}
	ok, err := t.envelope(utf8)
	if err != nil {
		return err
	}
	if !ok || len(t.accepted) == 0 {
		t.conn.wire.WriteString("RSET\r\n")
		return t.conn.expect(250, "RSET")
	}
	return t.data()
}

var errUTF8 = &mail.Status{Code: 553, Enhanced: [3]int{5, 6, 7}, Text: "the store takes no such address (SMTPUTF8)"}

func (t *transaction) refuseAll(st *mail.Status) {
	for i := range t.env.To {
		t.refuse(i, st)
	}
}

// envelope says MAIL and all RCPTs, and reports whether MAIL was accepted.
func (t *transaction) envelope(utf8 bool) (bool, error) {
	c := t.conn.wire
	pipelining := t.conn.ext.Has(smtpwire.ExtPipelining)
	c.SetOut(smtpwire.AppendMail(c.Out(), t.env, t.body.Size(), t.conn.ext))
	from, have := smtpwire.Reply{}, false
	var sent []int
	collect := func() error {
		if !have {
			var err error
			if from, err = t.conn.reply("MAIL"); err != nil {
				return &staleError{err}
			}
			have = true
		}
		err := t.rcptReplies(sent, from)
		sent = sent[:0]
		return err
	}
	if !pipelining {
		if err := collect(); err != nil {
			return false, err
		}
	}
	for i, r := range t.env.To {
		if !utf8 && !r.Address.IsASCII() {
			t.refuse(i, errUTF8)
			continue
		}
		if have && !from.OK() { // nothing was said after a refused MAIL
			t.refuse(i, from.Status())
			continue
		}
		c.SetOut(smtpwire.AppendRcpt(c.Out(), t.addressed(r, utf8), t.conn.ext))
		sent = append(sent, i)
		if !pipelining || len(sent) == window {
			if err := collect(); err != nil {
				return false, err
			}
		}
	}
	if err := collect(); err != nil {
		return false, err
	}
	return from.OK(), nil
}

// rcptReplies reads the replies to the RCPTs that were sent. Where MAIL was
// refused, its reply is the answer and theirs only says so.
func (t *transaction) rcptReplies(sent []int, from smtpwire.Reply) error {
	for _, i := range sent {
		r, err := t.conn.reply("RCPT")
		if err != nil {
			return err
		}
		switch {
		case !from.OK():
			t.refuse(i, from.Status())
		case r.OK():
			t.accepted = append(t.accepted, i)
		default:
			t.answer(i, r)
		}
	}
	return nil
}

// data sends the message and reads one reply for each accepted recipient, in
// order (RFC 2033 §4.2).
func (t *transaction) data() error {
	c := t.conn.wire
	c.WriteString("DATA\r\n")
	r, err := smtpwire.ReadReply(c)
	if err != nil {
		return err
	}
	if r.Code != 354 {
		if r.Code/100 < 4 || r.Code == 421 {
			return unexpected("DATA", r)
		}
		for _, i := range t.accepted {
			t.answer(i, r)
		}
		c.WriteString("RSET\r\n")
		return t.conn.expect(250, "RSET")
	}
	if err := t.send(); err != nil {
		return err
	}
	c.SetTimeouts(t.conn.final, t.conn.command)
	defer c.SetTimeouts(t.conn.command, t.conn.command)
	t.stored = make([]smtpwire.Reply, len(t.env.To))
	for _, i := range t.accepted {
		r, err := t.conn.reply("the message")
		if err != nil {
			return err
		}
		t.answer(i, r)
		if r.OK() {
			t.stored[i] = r
		}
	}
	return nil
}

func (t *transaction) send() error {
	r, err := t.body.Open()
	if err != nil {
		return fmt.Errorf("opening the message: %w", err)
	}
	defer r.Close()
	w := smtpwire.NewDotWriter(t.conn.wire)
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("sending the message: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("ending the message: %w", err)
	}
	return t.conn.wire.Flush()
}

// addressed is the recipient as this store understands it: without XDELIVER
// the mailbox becomes a subaddress, where one can be written.
func (t *transaction) addressed(r mail.Recipient, utf8 bool) mail.Recipient {
	if t.conn.ext.Has(smtpwire.ExtDeliver) || r.Mailbox == "" || strings.EqualFold(r.Mailbox, "INBOX") {
		return r
	}
	a := mail.Address{Local: r.Address.Local + "+" + r.Mailbox, Domain: r.Address.Domain}
	if len(a.Local) <= mail.MaxLocal && (utf8 || a.IsASCII()) {
		r.Address = a
	}
	return r
}
