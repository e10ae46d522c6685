package relay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/pop3wire"
)

// maxAuthLine is the longest AUTH command with an initial response (RFC 5034 §4).
const maxAuthLine = 255

// pop3Peer speaks POP3 to a store.
type pop3Peer struct {
	*line
	xclient bool // the store takes our word for who the client is
	text    string
}

func (p *pop3Peer) read() (pop3wire.Response, error) {
	line, err := p.readLine()
	if err != nil {
		return pop3wire.Response{}, err
	}
	r, err := pop3wire.ParseResponse(line)
	if err != nil {
		return r, fmt.Errorf("reading from store: %w: %q", err, line[:min(len(line), 80)])
	}
	return r, nil
}

// ask sends a command that must be answered +OK.
func (p *pop3Peer) ask(name, rest string) error {
	if err := p.write([]byte(name + rest + "\r\n")); err != nil {
		return err
	}
	r, err := p.read()
	if err == nil && !r.OK {
		err = fmt.Errorf("store answered %s with [%s] %q", name, r.Code, r.Text)
	}
	return err
}

func (p *pop3Peer) greeting() error {
	r, err := p.read()
	if err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("store greeted with [%s] %q", r.Code, r.Text)
	}
	p.xclient = r.Code == "XCLIENT"
	return nil
}

func (p *pop3Peer) startTLS() error {
	if err := p.ask("STLS", ""); err != nil {
		return err
	}
	return p.bare()
}

func (p *pop3Peer) authenticate(message []byte, h *mmp.Handover) error {
	if p.xclient {
		if err := p.ask("XCLIENT", introduction(h)); err != nil {
			return err
		}
	}
	if h.UTF8 {
		if err := p.ask("UTF8", ""); err != nil {
			return err
		}
	}
	initial := message
	if len("AUTH PLAIN \r\n")+base64.StdEncoding.EncodedLen(len(message)) > maxAuthLine {
		initial = nil
	}
	if err := p.write(pop3wire.AppendAuth(nil, "PLAIN", initial)); err != nil {
		return err
	}
	r, err := p.read()
	if err == nil && r.Continue && initial == nil {
		if err := p.write(pop3wire.AppendBase64Line(nil, message)); err != nil {
			return err
		}
		r, err = p.read()
	}
	switch {
	case err != nil:
		return err
	case r.Continue:
		return errors.New("store asked for more than PLAIN has to say")
	case !r.OK:
		return pop3Refusal(r)
	}
	p.text = r.Text
	return nil
}

// introduction says who the client is in the words that stores know from other
// proxies.
func introduction(h *mmp.Handover) string {
	s := fmt.Sprintf(" SESSION=%s TTL=%d SERVICE=%s CLIENT-TRANSPORT=%s", h.Trace, mmp.MaxHops-h.Hops-1, h.Client.Service, transport(h))
	if addr := h.Client.Addr; addr.IsValid() {
		s += " ADDR=" + addr.Addr().WithZone("").String() + " PORT=" + strconv.Itoa(int(addr.Port()))
	}
	return s
}

// pop3Refusal sorts a store's -ERR by its code: see refusal.
func pop3Refusal(r pop3wire.Response) error {
	err := fmt.Errorf("store refused the login: [%s] %q", r.Code, r.Text)
	switch r.Code {
	case pop3wire.CodePermanent:
		return &mmp.RefusedError{Text: "This account may not log in", Err: err}
	case pop3wire.CodeInUse, pop3wire.CodeLoginDelay:
		return &mmp.RefusedError{Unavailable: true, Code: r.Code, Text: r.Text, Err: err}
	}
	if r.Code == pop3wire.CodeAuth || r.Code == "" {
		err = &wrongCredentials{err}
	}
	return &answeredError{err}
}

func (p *pop3Peer) capabilities() ([]string, error) {
	if err := p.ask("CAPA", ""); err != nil {
		return nil, err
	}
	var caps []string
	for range maxUntagged {
		line, err := p.readLine()
		if err != nil {
			return nil, err
		}
		text, end := pop3wire.Unstuff(line)
		if end {
			return ofMail(caps, "STLS", "USER", "SASL", "XCLIENT", "IMPLEMENTATION", "AUTH-RESP-CODE"), nil
		}
		caps = append(caps, strings.ToUpper(string(text)))
	}
	return nil, errors.New("store has too many capabilities")
}

func (p *pop3Peer) leave() error { return p.write([]byte("QUIT\r\n")) }

func (p *pop3Peer) completion(*mmp.Handover) []byte {
	return pop3wire.AppendOK(nil, pop3wire.SafeText(p.text))
}
