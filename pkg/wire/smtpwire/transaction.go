package smtpwire

import (
	"fmt"
	"strconv"
	"strings"

	"mailsrv/pkg/mail"
)

// greeted serves HELO, EHLO and LHLO, which also reset (RFC 5321 §4.1.4).
func (s *session) greeted(cmd Command) {
	s.countJunk()
	if s.closed {
		return
	}
	if s.o.LMTP != (cmd.Verb == "LHLO") {
		s.fail(cmd.Verb, status(500, 5, 1, "command not recognized"))
		return
	}
	// Many clients send names that are no domains; what could be mistaken for
	// other parts of a header field is refused.
	if cmd.Arg == "" || len(cmd.Arg) > mail.MaxDomain || !isASCII(cmd.Arg) || strings.ContainsAny(cmd.Arg, " \t()<>@,;\"\\") {
		s.fail(cmd.Verb, status(501, 5, 4, "syntax is "+cmd.Verb+" hostname"))
		return
	}
	hello := Hello{Name: cmd.Arg, ESMTP: cmd.Verb != "HELO"}
	offer, err := s.h.Hello(s.ctx, hello)
	if err != nil {
		s.fail(cmd.Verb, mail.StatusOf(err))
		return
	}
	s.reset()
	offer.RequireTLS = offer.RequireTLS && s.tls
	s.hello, s.esmtp, s.offer = true, hello.ESMTP, offer
	if !hello.ESMTP {
		s.offer = Offer{}
		s.c.SetOut(appendLines(s.c.Out(), 250, []string{s.o.Hostname}))
		return
	}
	s.c.SetOut(appendLines(s.c.Out(), 250, s.keywords()))
}

func (s *session) keywords() []string {
	k := []string{s.o.Hostname, ExtPipelining, ExtEightBit, ExtUTF8, ExtEnhanced}
	if s.o.MaxSize > 0 {
		k = append(k, ExtSize+" "+strconv.FormatInt(s.o.MaxSize, 10))
	} else {
		k = append(k, ExtSize)
	}
	if s.o.TLS != nil && !s.tls {
		k = append(k, ExtStartTLS)
	}
	if len(s.offer.Auth) > 0 && !s.authed {
		auth := ExtAuth
		for _, m := range s.offer.Auth {
			auth += " " + m
		}
		k = append(k, auth)
	}
	if s.offer.DSN {
		k = append(k, ExtDSN)
	}
	if s.offer.Chunking {
		k = append(k, ExtChunking, ExtBinary)
	}
	if s.offer.RequireTLS {
		k = append(k, ExtRequireTLS)
	}
	if s.offer.ETRN {
		k = append(k, ExtETRN)
	}
	if s.offer.Trace {
		k = append(k, ExtTrace)
	}
	if s.offer.Deliver {
		k = append(k, ExtDeliver)
	}
	if s.offer.History {
		k = append(k, ExtHistory)
	}
	return k
}

func (s *session) mailFrom(cmd Command) {
	switch {
	case !s.hello:
		s.fail(cmd.Verb, status(503, 5, 1, "introduce yourself first"))
		return
	case s.mail != nil:
		s.fail(cmd.Verb, status(503, 5, 1, "a transaction is in progress"))
		return
	}
	m, st := ParseMail(cmd.Arg, s.offer)
	if st == nil && s.o.MaxSize > 0 && m.Size > s.o.MaxSize {
		st = errTooLarge
	}
	if st != nil {
		s.fail(cmd.Verb, st)
		return
	}
	if s.ok(cmd.Verb, s.h.Mail(s.ctx, m), status(250, 1, 0, "sender ok")) {
		s.mail, s.useful = &m, true
	}
}

func (s *session) rcptTo(cmd Command) {
	if s.mail == nil {
		s.fail(cmd.Verb, status(503, 5, 1, "MAIL comes first"))
		return
	}
	r, st := ParseRcpt(cmd.Arg, s.mail.SMTPUTF8, s.offer)
	if st == nil && s.o.MaxRecipients > 0 && s.rcpts >= s.o.MaxRecipients {
		st = status(452, 5, 3, "too many recipients")
	}
	if st != nil {
		s.fail(cmd.Verb, st)
		return
	}
	if s.ok(cmd.Verb, s.h.Rcpt(s.ctx, r), status(250, 1, 5, "recipient ok")) {
		s.rcpts++
	}
}

// data serves DATA. An error is the connection's.
func (s *session) data(cmd Command) error {
	switch {
	case !s.bare(cmd):
		return nil
	case s.mail == nil:
		s.fail(cmd.Verb, status(503, 5, 1, "MAIL comes first"))
		return nil
	case s.rcpts == 0:
		code := 554
		if s.o.LMTP { // RFC 2033 §4.2
			code = 503
		}
		s.fail(cmd.Verb, status(code, 5, 1, "no valid recipients"))
		return nil
	case s.mail.Binary: // RFC 3030 §3: its lines mean nothing
		s.fail(cmd.Verb, status(503, 5, 1, "a BINARYMIME message comes by BDAT"))
		return nil
	}
	s.reply(&mail.Status{Code: 354, Text: "end with <CRLF>.<CRLF>"})
	r := newDataReader(s.c, s.o.MaxSize, s.o.Limits.Data)
	want := 1
	if s.o.LMTP {
		want = s.rcpts
	}
	replies := s.h.Data(s.ctx, r)
	s.mail, s.rcpts = nil, 0
	if err := r.discard(); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	if r.refused != nil {
		s.refuseData(r, want)
		return nil
	}
	s.answerData(replies, want)
	return nil
}

// refuseData answers for all recipients what the reader refused.
func (s *session) refuseData(r *dataReader, want int) {
	s.logRefusal("DATA", r.refused)
	s.errors++
	for range want {
		s.reply(r.refused)
	}
	s.closed = s.closed || r.close
}

// answerData writes the handler's replies; one that it owes is transient.
func (s *session) answerData(replies []*mail.Status, want int) {
	accepted := false
	for i := range want {
		st := mail.TryLater(3, 0, "temporary failure, try again later", nil)
		if i < len(replies) && replies[i] != nil {
			st = replies[i]
		}
		if st.Code/100 == 2 {
			accepted = true
		} else {
			s.logRefusal("DATA", st)
		}
		s.reply(st)
	}
	if accepted {
		s.errors, s.junk = 0, 0
	} else {
		s.errors++
	}
}
