package smtpwire

import (
	"fmt"
	"strings"

	"mailsrv/pkg/mail"
)

// etrn serves ETRN (RFC 1985): "ETRN domain", or "ETRN @domain" for its
// subdomains too. Queues have no names here ("ETRN #queue").
func (s *session) etrn(cmd Command) {
	h, ok := s.h.(Starter)
	name, wide := strings.CutPrefix(cmd.Arg, "@")
	domain, err := mail.ParseDomain(name)
	switch {
	case !ok || !s.offer.ETRN:
		s.fail(cmd.Verb, status(502, 5, 1, "command not implemented"))
		return
	case s.mail != nil:
		s.fail(cmd.Verb, status(503, 5, 1, "a transaction is in progress"))
		return
	case err != nil:
		s.fail(cmd.Verb, status(501, 5, 4, "syntax is ETRN domain"))
		return
	}
	n, err := h.Start(s.ctx, domain, wide)
	switch {
	case err != nil:
		s.fail(cmd.Verb, mail.StatusOf(err))
	case n == 0:
		s.reply(status(251, 0, 0, "no messages wait for "+domain))
	default:
		s.reply(status(253, 0, 0, fmt.Sprintf("%d recipients wait for %s, started", n, domain)))
	}
}
