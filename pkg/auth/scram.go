package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
)

const (
	scramName = "SCRAM-SHA-256"
	scramPlus = "SCRAM-SHA-256-PLUS"
	// scramIterations stands in the secrets of people who do not exist, as in ours.
	scramIterations = 4096
)

// channelBinding is what both ends of the connection's TLS know and nobody
// between them (RFC 5056); nil: there is no such binding here.
func (c Client) channelBinding(name string) []byte {
	switch {
	case c.Session == nil:
	case name == "tls-exporter": // RFC 9266
		b, err := c.Session.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err == nil {
			return b
		}
	case name == "tls-unique": // RFC 5929; empty in TLS 1.3
		return c.Session.TLSUnique
	}
	return nil
}

// scramExchange is SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677): the password
// does not cross the connection, and with -PLUS nobody can stand in between.
type scramExchange struct {
	l         *Logins
	c         Client
	mechanism string
	step      int
	authcid   string
	// gs2 is the header of the client's first message, bare the rest of it,
	// server our first.
	gs2, bare, server string
	nonce             string
	binding           []byte
	user              directory.User
	secret            password.SCRAM
	found             bool
	id                Identity
}

// Next implements Exchange.
func (e *scramExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil && e.step == 0 {
		return []byte{}, false, nil
	}
	e.step++
	switch e.step {
	case 1:
		return e.first(ctx, string(response))
	case 2:
		return e.final(ctx, string(response))
	}
	if len(response) > 0 || e.id.Login == "" {
		return nil, false, e.malformed("more than was asked for")
	}
	return nil, true, nil
}

// Identity implements Exchange.
func (e *scramExchange) Identity() Identity { return e.id }

func (e *scramExchange) malformed(what string) error {
	e.l.o.Observe(e.mechanism, "malformed")
	return fmt.Errorf("%w: %s: %s", ErrMalformed, e.mechanism, what)
}

// first takes client-first-message and returns server-first-message.
func (e *scramExchange) first(ctx context.Context, message string) ([]byte, bool, error) {
	flag, rest, ok1 := strings.Cut(message, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 {
		return nil, false, e.malformed("no header")
	}
	e.gs2, e.bare = message[:len(message)-len(bare)], bare
	if err := e.bind(flag); err != nil {
		return nil, false, err
	}
	attributes := strings.Split(bare, ",")
	if len(attributes) < 2 || !strings.HasPrefix(attributes[0], "n=") || !strings.HasPrefix(attributes[1], "r=") || len(attributes[1]) < 10 || len(attributes[1]) > 512 {
		return nil, false, e.malformed("no name or nonce") // m= asks for what nobody has, and is to fail (RFC 5802 §5.1)
	}
	name, ok := unescaped(attributes[0][2:])
	if !ok {
		return nil, false, e.malformed("name")
	}
	if authzid != "" {
		as, ok := unescaped(strings.TrimPrefix(authzid, "a="))
		if !ok || !strings.HasPrefix(authzid, "a=") {
			return nil, false, e.malformed("authorization identity")
		}
		if as != name {
			return nil, false, fmt.Errorf("%w: %.40q may not act for %.40q", ErrBadCredentials, name, as)
		}
	}
	e.authcid = e.l.qualified(e.c, name)
	if err := e.lookUp(ctx); err != nil {
		_, err = e.l.judge(ctx, e.c, e.mechanism, e.authcid, func(*Identity) error { return err })
		return nil, false, err
	}
	e.nonce = attributes[1][2:] + e.l.nonce()
	e.server = fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.secret.Salt), e.secret.Iterations)
	return []byte(e.server), false, nil
}

// bind reads the flag that says which channel binding there is. A client that
// has it but believes that we have not was lied to (RFC 5802 §6).
func (e *scramExchange) bind(flag string) error {
	plus := e.mechanism == scramPlus
	name, named := strings.CutPrefix(flag, "p=")
	switch {
	case named != plus:
		return e.malformed("channel binding")
	case named:
		if e.binding = e.c.channelBinding(name); e.binding == nil {
			return e.malformed("unknown channel binding")
		}
	case flag == "y" && e.c.channelBinding("tls-exporter") != nil:
		return e.malformed("channel binding was stripped")
	case flag != "y" && flag != "n":
		return e.malformed("header")
	}
	return nil
}

// lookUp finds the secret. Who does not exist, or has none, gets one made up
// that is the same each time.
func (e *scramExchange) lookUp(ctx context.Context) error {
	free := e.l.unthrottled(e.c.Addr.Addr().Unmap(), e.c.hop(), e.authcid)
	if err := e.l.admit(e.c, e.authcid, free); err != nil {
		return err
	}
	var err error
	e.user, e.secret, err = e.l.scram.SCRAM(ctx, e.authcid)
	switch {
	case err == nil:
		e.found = true
	case errors.Is(err, directory.ErrNotFound):
		e.secret = password.SCRAM{
			Salt: sum(e.l.salt[:], strings.ToLower(e.authcid))[:16], Iterations: scramIterations,
			StoredKey: e.l.salt[:], ServerKey: e.l.salt[:],
		}
	default:
		return err
	}
	return nil
}

// final takes client-final-message, judges the login, and returns
// server-final-message.
func (e *scramExchange) final(ctx context.Context, message string) ([]byte, bool, error) {
	i := strings.LastIndex(message, ",p=")
	if i < 0 {
		return nil, false, e.malformed("no proof")
	}
	without := message[:i]
	proof, err := base64.StdEncoding.DecodeString(message[i+3:])
	if err != nil || len(proof) != sha256.Size {
		return nil, false, e.malformed("proof")
	}
	channel := "c=" + base64.StdEncoding.EncodeToString(append([]byte(e.gs2), e.binding...))
	c, rest, _ := strings.Cut(without, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	if nonce != "r="+e.nonce {
		return nil, false, e.malformed("nonce")
	}
	said := e.bare + "," + e.server + "," + without
	e.id, err = e.l.judge(ctx, e.c, e.mechanism, e.authcid, func(id *Identity) error {
		id.User = e.user
		key := sum(e.secret.StoredKey, said)
		subtle.XORBytes(key, key, proof)
		stored := sha256.Sum256(key)
		if subtle.ConstantTimeCompare(stored[:], e.secret.StoredKey) != 1 || !e.found || c != channel {
			return ErrBadCredentials
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(sum(e.secret.ServerKey, said))), false, nil
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// unescaped reads a saslname: =2C is a comma and =3D an equals sign.
func unescaped(s string) (string, bool) {
	for rest := s; ; {
		i := strings.IndexByte(rest, '=')
		if i < 0 {
			return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s), s != ""
		}
		if rest = rest[i:]; !strings.HasPrefix(rest, "=2C") && !strings.HasPrefix(rest, "=3D") {
			return "", false
		}
		rest = rest[3:]
	}
}
