package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/wire/smtpwire"
)

// needsOf reports whether the message cannot go without SMTPUTF8 (RFC 6531
// §3.4): an address is not ASCII or, where the sender asked for SMTPUTF8, its
// header is not.
func needsOf(env mail.Envelope, body mail.Body) (bool, error) {
	asked := env.SMTPUTF8
	env.SMTPUTF8 = false
	if smtpwire.NeedsUTF8(env) || !asked {
		return smtpwire.NeedsUTF8(env), nil
	}
	rc, err := body.Open()
	if err != nil {
		return false, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	r := bufio.NewReaderSize(rc, 8<<10)
	for {
		line, err := r.ReadSlice('\n')
		if bytes.ContainsFunc(line, func(c rune) bool { return c > '~' }) {
			return true, nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF), len(line) <= 2:
			return false, nil
		case err != nil:
			return false, fmt.Errorf("reading the message: %w", err)
		}
	}
}

// deliver runs as many transactions as the recipients need, and returns one
// error for each.
func (s *session) deliver(env mail.Envelope, body mail.Body, utf8 bool) []error {
	if env.Binary && !(s.ext.Has(smtpwire.ExtBinary) && s.chunking()) {
		text, err := mta.Downgraded(body)
		if err != nil {
			return mail.All(len(env.To), err)
		}
		body, env.Binary = text, false
	}
	if err := s.fits(env, body.Size(), utf8); err != nil {
		return mail.All(len(env.To), err)
	}
	env.SMTPUTF8 = utf8
	errs := make([]error, 0, len(env.To))
	for to := env.To; len(to) > 0; {
		n := min(len(to), perTransaction)
		env.To = to[:n]
		to = to[n:]
		errs = append(errs, s.transaction(env, body)...)
		if s.broken {
			return append(errs, mail.All(len(to), mail.TryLater(4, 2, "the connection to "+s.hop.name+" failed before this recipient", nil))...)
		}
	}
	return errs
}

// fits compares the message with what the host announced. A host without
// 8BITMIME gets eight-bit text all the same: none loses the eighth bit any
// more, and rewriting would break signatures.
func (s *session) fits(env mail.Envelope, size int64, utf8 bool) error {
	if err := s.keepsTLS(env); err != nil {
		return err
	}
	if most := s.ext.MaxSize(); most > 0 && size > most {
		return &mail.Status{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: fmt.Sprintf("%s takes at most %d bytes", s.hop.name, most)}
	}
	if utf8 && !s.ext.Has(smtpwire.ExtUTF8) {
		return mail.Refuse(6, 7, s.hop.name+" cannot take internationalized mail (SMTPUTF8)")
	}
	return nil
}

// keepsTLS refuses a host that does not promise to hand a REQUIRETLS message on
// as it has to be (RFC 8689 §4.2.1).
func (s *session) keepsTLS(env mail.Envelope) error {
	if env.RequireTLS && !(s.tls && s.ext.Has(smtpwire.ExtRequireTLS)) {
		return mail.Refuse(7, 30, s.hop.name+" does not promise to keep the message within TLS (REQUIRETLS)")
	}
	return nil
}

// transaction is MAIL, RCPT and DATA, in one flight where the host takes
// PIPELINING (RFC 2920).
func (s *session) transaction(env mail.Envelope, body mail.Body) []error {
	s.clean = false
	pipelining, chunking := s.ext.Has(smtpwire.ExtPipelining), s.chunking()
	timeout := s.o.Timeouts.Command
	s.c.SetOut(smtpwire.AppendMail(s.c.Out(), env, body.Size(), s.ext))
	if pipelining {
		for _, r := range env.To {
			s.c.SetOut(smtpwire.AppendRcpt(s.c.Out(), r, s.ext))
		}
		if !chunking {
			s.c.WriteString("DATA\r\n")
		}
	}
	mailErr := s.judge("MAIL", timeout)
	s.begun = s.begun || !s.broken
	if mailErr != nil && (s.broken || !pipelining) {
		s.reset()
		return mail.All(len(env.To), mailErr)
	}
	errs := make([]error, len(env.To))
	accepted := 0
	for i, r := range env.To {
		if !pipelining {
			s.c.SetOut(smtpwire.AppendRcpt(s.c.Out(), r, s.ext))
		}
		if errs[i] = rcptError(s.judge("RCPT", timeout)); errs[i] == nil {
			accepted++
		}
		if s.broken {
			return fill(errs, errs[i])
		}
		if mailErr != nil {
			errs[i] = mailErr
		}
	}
	if wanted := accepted > 0 && mailErr == nil; !wanted && (chunking || !pipelining) {
		s.reset()
		return errs
	}
	if chunking {
		return s.done(env, errs, s.chunk(body, !env.Binary))
	}
	if !pipelining {
		s.c.WriteString("DATA\r\n")
	}
	return s.done(env, errs, s.data(body, accepted > 0 && mailErr == nil))
}

// done completes the outcome of a transaction by what the host said of the
// message.
func (s *session) done(env mail.Envelope, errs []error, err error) []error {
	if !s.clean {
		return fill(errs, err)
	}
	s.tell(env, errs)
	if !s.ext.Has(smtpwire.ExtDSN) {
		for i, r := range env.To {
			if errs[i] == nil && strings.Contains(r.Notify, "SUCCESS") {
				errs[i] = &mta.Handed{}
			}
		}
	}
	return errs
}

// tell logs that the host has the message, in its own words: they are what its
// admin finds it by.
func (s *session) tell(env mail.Envelope, errs []error) {
	var to []string
	for i, r := range env.To {
		if errs[i] == nil && len(to) < 20 {
			to = append(to, r.Address.String())
		}
	}
	protection := "none"
	if s.tls {
		protection = "unverified"
		if s.hop.insists() {
			protection = "verified"
		}
	}
	s.o.Log.Info("message handed over", "trace", string(env.Trace), "to", strings.Join(to, " "), "host", s.hop.name, "peer", s.hop.addr,
		"tls", protection, "reply", s.said(s.taken).Text)
}

// judge reads the reply to MAIL or RCPT.
func (s *session) judge(verb string, timeout time.Duration) error {
	r, err := s.reply(verb, timeout)
	switch {
	case err != nil:
		return err
	case r.OK():
		return nil
	case r.Code < 400:
		return s.trouble(verb, s.said(r))
	}
	return s.said(r)
}

// rcptError makes "too many recipients" transient whatever its code says
// (RFC 5321 §4.5.3.1.10).
func rcptError(err error) error {
	st, ok := errors.AsType[*mail.Status](err)
	if ok && st.Code == 552 && (st.Enhanced == [3]int{5, 0, 0} || st.Enhanced == [3]int{5, 5, 3}) {
		return &mail.Status{Code: 452, Enhanced: [3]int{4, 5, 3}, Text: st.Text}
	}
	return err
}

// data sends the message after DATA, or ends DATA with nothing if no recipient
// is left and the host wants a message all the same (RFC 2920 §3.1).
func (s *session) data(body mail.Body, wanted bool) error {
	r, err := s.reply("DATA", s.o.Timeouts.Data)
	switch {
	case err != nil:
		return err
	case r.Code != 354 && r.Code < 400:
		return s.trouble("DATA", s.said(r))
	case r.Code != 354:
		return s.said(r)
	case !wanted:
		s.broken = true // a message for nobody is not begun
		return nil
	}
	if err := s.send(body); err != nil {
		s.broken = true // without the final dot nothing was said
		if errors.Is(err, smtpwire.ErrText) {
			return &mail.Status{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: "the message has a bare CR or LF and cannot be sent", Err: err}
		}
		return s.trouble("DATA", err)
	}
	return s.final("the final dot")
}

// final reads what the host says of the whole message.
func (s *session) final(at string) error {
	r, err := s.reply(at, s.o.Timeouts.Final)
	switch {
	case err != nil:
		return err
	case r.OK():
		s.clean, s.taken = true, r
		return nil
	case r.Code < 400:
		return s.trouble(at, s.said(r))
	}
	return s.said(r)
}

// chunk sends the message by BDAT, in one piece. A host that has less than all
// of it has nothing (RFC 3030 §2), so a message that turns out to be unfit is
// ended with the connection.
func (s *session) chunk(body mail.Body, text bool) error {
	rc, err := body.Open()
	if err != nil {
		s.reset()
		return fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	size := body.Size()
	s.c.SetTimeouts(s.o.Timeouts.Command, s.o.Timeouts.Block)
	s.c.WriteString("BDAT " + strconv.FormatInt(size, 10) + " LAST\r\n")
	var r io.Reader = io.LimitReader(rc, size)
	if text {
		r = smtpwire.NewTextCheck(r)
	}
	n, err := io.Copy(s.c, r)
	switch {
	case errors.Is(err, smtpwire.ErrText):
		s.broken = true
		return &mail.Status{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: "the message has a bare CR or LF and cannot be sent", Err: err}
	case err == nil && n < size:
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return s.trouble("BDAT", err)
	}
	err = s.final("BDAT")
	if st, ok := errors.AsType[*mail.Status](err); ok && st.Code >= 500 && st.Code <= 504 {
		// It speaks of the command and not of the message (RFC 5321 §4.2.4): there
		// are hosts behind something that does not know what they offer.
		s.pool.spurn(s.hop.name)
		s.broken = true
		return mail.TryLater(5, 1, s.hop.name+" offers CHUNKING and knows no BDAT, next time it gets DATA", st)
	}
	return err
}

// chunking reports whether the message goes by BDAT.
func (s *session) chunking() bool {
	return s.ext.Has(smtpwire.ExtChunking) && !s.pool.spurns(s.hop.name)
}

func (s *session) send(body mail.Body) error {
	rc, err := body.Open()
	if err != nil {
		return fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	w := smtpwire.NewDotWriter(s.c)
	if _, err := io.Copy(w, rc); err != nil {
		return err
	}
	return w.Close()
}

// fill gives err to all recipients that have no error of their own.
func fill(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// reset ends a transaction that came to nothing, so that the next may begin.
func (s *session) reset() {
	if !s.broken {
		_, _ = s.command(s.o.Timeouts.Command, "RSET")
	}
}
