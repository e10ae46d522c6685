package relay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/smtpwire"
)

// smtpPeer speaks SMTP to an MTA that takes submissions. One that offers
// XCLIENT with LOGIN, as Postfix does to hosts that it trusts, takes our word
// for who the user is; to another one we log in by SASL as everywhere.
type smtpPeer struct {
	*line
	hostname string
	offers   smtpwire.Extensions // nil: EHLO is to be said
}

// reply reads a reply of any number of lines.
func (p *smtpPeer) reply() (r smtpwire.Reply, err error) {
	for range maxUntagged {
		line, err := p.readLine()
		if err != nil {
			return r, err
		}
		code, last, text, ok := smtpwire.ParseReplyLine(string(line))
		if !ok || len(r.Lines) > 0 && code != r.Code {
			return r, fmt.Errorf("reading from the MTA: not a reply: %q", line[:min(len(line), 80)])
		}
		r.Code, r.Lines = code, append(r.Lines, text)
		if last {
			return r, nil
		}
	}
	return r, errors.New("the MTA sent too long a reply")
}

// ask sends a command, which is answered with that code.
func (p *smtpPeer) ask(verb, rest string, want int) (smtpwire.Reply, error) {
	if err := p.write([]byte(verb + rest + "\r\n")); err != nil {
		return smtpwire.Reply{}, err
	}
	r, err := p.reply()
	if err == nil && r.Code != want {
		err = fmt.Errorf("the MTA answered %s with %d %q", verb, r.Code, strings.Join(r.Lines, " "))
	}
	return r, err
}

func (p *smtpPeer) greeting() error {
	r, err := p.reply()
	if err == nil && r.Code != 220 {
		err = fmt.Errorf("the MTA greeted with %d %q", r.Code, strings.Join(r.Lines, " "))
	}
	return err
}

func (p *smtpPeer) hello() error {
	if p.offers != nil {
		return nil
	}
	r, err := p.ask("EHLO", " "+p.hostname, 250)
	if err == nil {
		p.offers = smtpwire.ParseExtensions(r)
	}
	return err
}

func (p *smtpPeer) startTLS() error {
	if err := p.hello(); err != nil {
		return err
	}
	if !p.offers.Has(smtpwire.ExtStartTLS) {
		return errors.New("the MTA offers no STARTTLS")
	}
	if _, err := p.ask("STARTTLS", "", 220); err != nil {
		return err
	}
	p.offers = nil // what it said in plain text is forgotten
	return p.bare()
}

func (p *smtpPeer) authenticate(message []byte, h *mmp.Handover) error {
	if err := p.hello(); err != nil {
		return err
	}
	known := false
	if words := strings.Fields(strings.ToUpper(p.offers["XCLIENT"])); len(words) > 0 {
		attributes := xclient(words, h)
		if _, err := p.ask("XCLIENT", attributes, 220); err != nil {
			return err
		}
		p.offers = nil
		if err := p.hello(); err != nil {
			return err
		}
		if known = strings.Contains(attributes, " LOGIN="); known {
			return nil
		}
	}
	if err := p.write([]byte("AUTH PLAIN " + base64.StdEncoding.EncodeToString(message) + "\r\n")); err != nil {
		return err
	}
	r, err := p.reply()
	switch {
	case err != nil:
		return err
	case r.Code == 235:
		return nil
	}
	err = fmt.Errorf("the MTA refused the login: %d %q", r.Code, strings.Join(r.Lines, " "))
	if r.Code == 535 {
		err = &wrongCredentials{err}
	}
	return &answeredError{err}
}

// xclient is what the MTA wants to know of the client, in the words of
// Postfix's XCLIENT: values are xtext (RFC 3461 §4).
func xclient(words []string, h *mmp.Handover) string {
	var b strings.Builder
	for _, word := range words {
		value := ""
		switch addr := h.Client.Addr; word {
		case "NAME":
			value = "[UNAVAILABLE]"
		case "ADDR":
			if addr.IsValid() {
				value = addr.Addr().WithZone("").String()
				if addr.Addr().Is6() {
					value = "IPV6:" + value
				}
			}
		case "PORT":
			if addr.IsValid() {
				value = strconv.Itoa(int(addr.Port()))
			}
		case "PROTO":
			value = "ESMTP"
		case "LOGIN":
			value = string(smtpwire.AppendXtext(nil, h.Identity.User.StoreLogin()))
		}
		if value != "" {
			b.WriteString(" " + word + "=" + value)
		}
	}
	return b.String()
}

// capabilities: there is nothing that one is told of before a login.
func (p *smtpPeer) capabilities() ([]string, error) { return []string{}, p.hello() }

func (p *smtpPeer) leave() error { return p.write([]byte("QUIT\r\n")) }

func (p *smtpPeer) completion(*mmp.Handover) []byte {
	return smtpwire.AppendStatus(nil, &mail.Status{Code: 235, Enhanced: [3]int{2, 7, 0}, Text: "welcome"})
}
