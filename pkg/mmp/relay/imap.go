package relay

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/imapwire"
)

// maxUntagged is how many untagged lines a store may send before each answer.
const maxUntagged = 100

// imapPeer speaks IMAP to a store.
type imapPeer struct {
	*line
	// caps is what the store last said it can do, in upper case; nil: unknown.
	caps []string
}

// read returns the next line as a response, and keeps capabilities.
func (p *imapPeer) read() (imapwire.Response, error) {
	line, err := p.readLine()
	if err != nil {
		return imapwire.Response{}, err
	}
	r, err := imapwire.ParseResponse(line)
	if err != nil {
		return r, fmt.Errorf("reading from store: %w: %q", err, line[:min(len(line), 80)])
	}
	if caps := r.Capabilities(); caps != nil {
		p.caps = caps
	}
	return r, nil
}

// answer reads up to the tagged response, or a continuation request where one
// may come.
func (p *imapPeer) answer(tag string, continuation bool) (imapwire.Response, error) {
	for range maxUntagged {
		r, err := p.read()
		switch {
		case err != nil:
			return r, err
		case r.Tag == tag, r.Tag == "+" && continuation:
			return r, nil
		case r.Tag != "*":
			return r, fmt.Errorf("store answered with tag %q", r.Tag)
		case r.Name == "BYE":
			return r, fmt.Errorf("store said BYE %q", r.Text)
		}
	}
	return imapwire.Response{}, errors.New("store sent too many untagged responses")
}

// greeting demands OK: a store that logs everybody in at once (PREAUTH) does
// not know whom it serves.
func (p *imapPeer) greeting() error {
	r, err := p.read()
	if err != nil {
		return err
	}
	if r.Tag != "*" || r.Name != "OK" {
		return fmt.Errorf("store greeted with %s %q", r.Name, r.Text)
	}
	return nil
}

// learn asks for the capabilities unless they are known.
func (p *imapPeer) learn() error {
	if p.caps != nil {
		return nil
	}
	if err := p.write([]byte("c CAPABILITY\r\n")); err != nil {
		return err
	}
	r, err := p.answer("c", false)
	if err == nil && (r.Name != "OK" || p.caps == nil) {
		err = fmt.Errorf("store answered CAPABILITY with %s %q", r.Name, r.Text)
	}
	return err
}

// capability says whether the store can do what; it asks once if need be.
func (p *imapPeer) capability(what string) (bool, error) {
	err := p.learn()
	return err == nil && slices.Contains(p.caps, what), err
}

func (p *imapPeer) capabilities() ([]string, error) {
	if err := p.learn(); err != nil {
		return nil, err
	}
	return spelled(ofMail(p.caps, "STARTTLS", "LOGINDISABLED", "LOGIN-REFERRALS", "SASL-IR", "ID", "LITERAL+")), nil
}

// spelled gives the one word that clients know in mixed case its usual form.
func spelled(caps []string) []string {
	caps = slices.Clone(caps)
	for i, c := range caps {
		if v, ok := strings.CutPrefix(c, "IMAP4REV"); ok {
			caps[i] = "IMAP4rev" + v
		}
	}
	return caps
}

func (p *imapPeer) leave() error { return p.write([]byte("z LOGOUT\r\n")) }

// startTLS asks for TLS. Bytes sent behind the answer in plain text end it
// (hardening row S4).
func (p *imapPeer) startTLS() error {
	ok, err := p.capability("STARTTLS")
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("store offers no STARTTLS")
	}
	if err := p.write([]byte("s STARTTLS\r\n")); err != nil {
		return err
	}
	r, err := p.answer("s", false)
	switch {
	case err != nil:
		return err
	case r.Name != "OK":
		return fmt.Errorf("store answered STARTTLS with %s %q", r.Name, r.Text)
	}
	p.caps = nil // what it said in plain text is forgotten
	return p.bare()
}

const loginTag = "a"

// authenticate logs in with SASL PLAIN and that message. Afterwards caps holds
// only what the store said with the login.
func (p *imapPeer) authenticate(message []byte, h *mmp.Handover) error {
	plain, err := p.capability("AUTH=PLAIN")
	if err != nil {
		return err
	}
	if !plain {
		return errors.New("store offers no AUTH=PLAIN")
	}
	var out []byte
	if slices.Contains(p.caps, "ID") {
		out = appendID(out, h)
	}
	initial := slices.Contains(p.caps, "SASL-IR")
	p.caps = nil
	first := []byte(nil)
	if initial {
		first = message
	}
	if err := p.write(imapwire.AppendAuthenticate(out, loginTag, "PLAIN", first)); err != nil {
		return err
	}
	if len(out) > 0 {
		if _, err := p.answer(idTag, false); err != nil {
			return err
		}
	}
	r, err := p.answer(loginTag, !initial)
	if err == nil && r.Tag == "+" {
		if err := p.write(imapwire.AppendBase64Line(nil, message)); err != nil {
			return err
		}
		r, err = p.answer(loginTag, false)
	}
	if err != nil {
		return err
	}
	if r.Name != "OK" {
		return refusal(r)
	}
	return nil
}

const idTag = "i"

// appendID says who the client is by ID, in the words that stores know from
// other proxies. The store must trust us to heed it.
func appendID(dst []byte, h *mmp.Handover) []byte {
	dst = append(dst, idTag+` ID ("name" "mailsrv"`...)
	for _, pair := range [][2]string{
		{"x-session-ext-id", string(h.Trace)}, {"x-proxy-ttl", strconv.Itoa(mmp.MaxHops - h.Hops - 1)},
		{"x-service", string(h.Client.Service)}, {"x-client-transport", transport(h)},
	} {
		dst = append(append(append(append(append(dst, ` "`...), pair[0]...), `" "`...), pair[1]...), '"')
	}
	if addr := h.Client.Addr; addr.IsValid() {
		dst = append(dst, ` "x-originating-ip" "`...)
		dst = append(dst, addr.Addr().WithZone("").String()...)
		dst = append(dst, `" "x-originating-port" "`...)
		dst = strconv.AppendUint(dst, uint64(addr.Port()), 10)
		dst = append(dst, '"')
	}
	return append(dst, ")\r\n"...)
}

// transport is how the client itself came.
func transport(h *mmp.Handover) string {
	if h.Client.TLS {
		return "TLS"
	}
	return "insecure"
}

// refusal sorts a store's NO by its code (RFC 5530 §3): only a code that
// speaks of the account is the user's matter. The proxy's own credentials
// being wrong is ours, and looks to the user as an outage.
func refusal(r imapwire.Response) error {
	err := fmt.Errorf("store refused the login: %s [%s] %q", r.Name, r.Code, r.Text)
	switch r.Code {
	case "AUTHORIZATIONFAILED", "EXPIRED", "NOPERM", "CONTACTADMIN", "POLICYDENIED":
		return &mmp.RefusedError{Text: "This account may not log in", Err: err}
	}
	if r.Code == "AUTHENTICATIONFAILED" || r.Code == "" {
		err = &wrongCredentials{err}
	}
	return &answeredError{err}
}

// completion is the answer to the client's own login command.
func (p *imapPeer) completion(h *mmp.Handover) []byte {
	if len(p.caps) == 0 || !slices.ContainsFunc(p.caps, func(c string) bool { return strings.HasPrefix(c, "IMAP4") }) {
		return []byte(h.Tag + " OK Logged in\r\n")
	}
	safe := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == ']' {
			return -1
		}
		return r
	}, strings.Join(spelled(p.caps), " "))
	return []byte(h.Tag + " OK [CAPABILITY " + safe + "] Logged in\r\n")
}
