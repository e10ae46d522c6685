package smtpclient

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/smtpwire"
)

// session is one connection to a next hop, after EHLO and before QUIT.
type session struct {
	c    *wire.Conn
	hop  hop
	o    *Options
	pool *pool
	ext  smtpwire.Extensions
	tls  bool
	stop func() bool // unties the connection from its context
	// broken: nothing more can be said on the connection. begun: the host has
	// judged the sender of the message in hand. clean: it took the last message.
	broken, begun, clean bool
	// taken is the reply by which it took it.
	taken smtpwire.Reply

	opened   time.Time
	messages int
	expiry   *time.Timer // while it is idle
}

// errHandshake: TLS did not come about, and the host may be asked once more
// without, where nothing demands it.
var errHandshake = errors.New("TLS handshake")

// open connects to a hop and gets ready for a transaction. Its error is
// transient, whatever the host said: it has not seen a message yet.
func (c *Client) open(ctx context.Context, h hop) (*session, error) {
	s, err := c.start(ctx, h, true)
	if errors.Is(err, errHandshake) && !h.insists() && ctx.Err() == nil {
		// RFC 7435 §3: a broken offer of TLS is no reason to keep the mail back.
		c.o.Log.Info("going on without TLS", "host", h.name, "peer", h.addr, "err", err)
		s, err = c.start(ctx, h, false)
	}
	return s, err
}

func (c *Client) start(ctx context.Context, h hop, mayTLS bool) (*session, error) {
	dial, cancel := context.WithTimeout(ctx, c.o.Timeouts.Connect)
	raw, err := c.o.Dial(dial, "tcp", h.addr)
	cancel()
	if err != nil {
		return nil, mail.TryLater(4, 1, "no connection to "+h.name, err)
	}
	s := &session{c: wire.NewConn(raw, smtpwire.ReadSize, nil), hop: h, o: &c.o, pool: c.pool, opened: time.Now()}
	s.stop = context.AfterFunc(ctx, func() { s.c.Close() })
	if err := s.begin(ctx, raw, mayTLS); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// begin is everything before MAIL.
func (s *session) begin(ctx context.Context, raw net.Conn, mayTLS bool) error {
	if s.hop.security == ImplicitTLS {
		if err := s.handshake(ctx, raw); err != nil {
			return s.trouble("TLS", err)
		}
	}
	if err := s.expect(220, "greeting", s.o.Timeouts.Command); err != nil {
		return err
	}
	if err := s.hello(); err != nil {
		return err
	}
	if !s.tls && mayTLS {
		if err := s.startTLS(ctx, raw); err != nil {
			return err
		}
	}
	if s.hop.auth != nil {
		return s.login()
	}
	return nil
}

// hello says EHLO, or HELO to a host that does not know it.
func (s *session) hello() error {
	r, err := s.command(s.o.Timeouts.Command, "EHLO "+s.o.Hostname)
	if err != nil {
		return err
	}
	if r.OK() {
		s.ext = smtpwire.ParseExtensions(r)
		return nil
	}
	if r.Code < 500 {
		return s.refused(r)
	}
	s.ext = smtpwire.Extensions{}
	if r, err = s.command(s.o.Timeouts.Command, "HELO "+s.o.Hostname); err != nil {
		return err
	}
	if !r.OK() {
		return s.refused(r)
	}
	return nil
}

// insists reports whether nothing is said to the hop without verified TLS:
// where the relay is ours to know, or the domain's policy demands it.
func (h hop) insists() bool { return h.security != Opportunistic || h.protection != nil }

// startTLS uses the offer of TLS, if there is one.
func (s *session) startTLS(ctx context.Context, raw net.Conn) error {
	required := s.hop.insists()
	if !s.ext.Has(smtpwire.ExtStartTLS) {
		if required {
			return mail.TryLater(7, 10, s.hop.name+" offers no STARTTLS, which "+s.hop.demands(), nil)
		}
		return nil
	}
	r, err := s.command(s.o.Timeouts.Command, "STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		if required {
			return s.refused(r)
		}
		return nil
	}
	if s.c.Buffered() > 0 { // RFC 3207 §4.2: whoever put them there is not to be talked to
		return s.trouble("STARTTLS", errors.New("plaintext after the reply to STARTTLS"))
	}
	if err := s.handshake(ctx, raw); err != nil {
		return s.trouble("STARTTLS", fmt.Errorf("%w: %w", errHandshake, err))
	}
	return s.hello()
}

// demands says who insists on TLS.
func (h hop) demands() string {
	if h.protection != nil {
		return "its domain's policy demands (" + h.protection.By + ")"
	}
	return "our configuration demands"
}

func (s *session) handshake(ctx context.Context, raw net.Conn) error {
	config := s.o.TLS.Clone()
	config.ServerName = s.hop.name
	config.InsecureSkipVerify = !s.hop.insists()
	if p := s.hop.protection; p != nil && p.Verify != nil {
		config.InsecureSkipVerify, config.VerifyConnection = true, p.Verify
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeouts.Connect)
	defer cancel()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if err := s.c.Upgrade(conn); err != nil {
		return err
	}
	s.tls = true
	return nil
}

// login proves to a relay who we are. A refusal is our configuration's fault
// and no reason to bounce anything.
func (s *session) login() error {
	verified := s.tls && s.hop.security != Opportunistic
	if !verified && !isLoopback(s.hop.addr) {
		return mail.TryLater(7, 11, "will not send a password to "+s.hop.name+" without verified TLS", nil)
	}
	encode := base64.StdEncoding.EncodeToString
	user, pass := s.hop.auth.Username, s.hop.auth.Password
	mechanisms := strings.Fields(strings.ToUpper(s.ext[smtpwire.ExtAuth]))
	var lines []string
	switch {
	case slices.Contains(mechanisms, "PLAIN"): // RFC 4616
		lines = []string{"AUTH PLAIN " + encode([]byte("\x00"+user+"\x00"+pass))}
	case slices.Contains(mechanisms, "LOGIN"):
		lines = []string{"AUTH LOGIN", encode([]byte(user)), encode([]byte(pass))}
	default:
		return mail.TryLater(7, 4, "the relay "+s.hop.name+" offers no login that we know", nil)
	}
	for i, line := range lines {
		r, err := s.command(s.o.Timeouts.Command, line)
		if err != nil {
			return err
		}
		if last := i == len(lines)-1; last && r.Code != 235 || !last && r.Code != 334 {
			return mail.TryLater(7, 8, "the relay "+s.hop.name+" refused our login", s.refused(r))
		}
	}
	return nil
}

func isLoopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// command sends a line and reads its reply.
func (s *session) command(timeout time.Duration, line string) (smtpwire.Reply, error) {
	s.c.WriteString(line + "\r\n")
	verb, _, _ := strings.Cut(line, " ")
	return s.reply(verb, timeout)
}

// reply reads one reply: all of it within the timeout, however it drips.
func (s *session) reply(to string, timeout time.Duration) (smtpwire.Reply, error) {
	s.c.SetTimeouts(timeout, s.o.Timeouts.Block)
	s.c.SetReadDeadline(time.Now().Add(timeout))
	r, err := smtpwire.ReadReply(s.c)
	if err != nil {
		return smtpwire.Reply{}, s.trouble(to, err)
	}
	if r.Code == 421 {
		s.broken = true
		return smtpwire.Reply{}, ofHost(s.said(r))
	}
	return r, nil
}

func (s *session) expect(code int, what string, timeout time.Duration) error {
	r, err := s.reply(what, timeout)
	if err == nil && r.Code != code {
		err = s.refused(r)
	}
	return err
}

// trouble is the error of a connection that failed at some point.
func (s *session) trouble(at string, err error) error {
	s.broken = true
	return mail.TryLater(4, 2, "the connection to "+s.hop.name+" failed at "+at, err)
}

// refused is any but the expected reply before the message was mentioned: it is
// about us or the hour, and so transient even if its code is not.
func (s *session) refused(r smtpwire.Reply) error {
	st := s.said(r)
	if st.Code/100 != 4 {
		st.Code, st.Enhanced[0] = 451, 4
	}
	return st
}

// said is the host's reply as a status of ours.
func (s *session) said(r smtpwire.Reply) *mail.Status {
	st := r.Status()
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, st.Text)
	const most = 500
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	st.Text = fmt.Sprintf("%s said: %d %s", s.hop.name, r.Code, text)
	return st
}

// close ends the session, politely if it still can be.
func (s *session) close() {
	s.stop()
	if !s.broken {
		s.c.WriteString("QUIT\r\n")
		s.c.SetTimeouts(quitTimeout, quitTimeout)
		s.c.SetReadDeadline(time.Now().Add(quitTimeout))
		_, _ = smtpwire.ReadReply(s.c) // it makes no difference any more
	}
	s.c.Close()
}

const quitTimeout = 5 * time.Second
