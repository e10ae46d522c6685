package cmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
	"github.com/go-ldap/ldap/v3"

	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
)

// TestDiagnose holds the likely cause of each kind of failure, and that there is
// something to do about it.
func TestDiagnose(t *testing.T) {
	dir := place{config.RoleDirectory, "directory.url", "ldap://dir.example.com"}
	front := place{config.RoleMMP, "mmp.imap.listen", "192.0.2.1:143"}
	agent := place{config.RoleMTA, "mta.submission.listen", "192.0.2.1:587"}
	store := place{config.RoleStore, "mta.stores", "192.0.2.2:24"}
	_, refused := connect(t.Context(), closedPort(t))
	_, noSocket := ldap.DialURL("ldapi://" + filepath.Join(t.TempDir(), "ldapi"))
	soon, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, late := connect(soon, "192.0.2.1:143")
	no := func(code imap.ResponseCode) error {
		return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: "no"}
	}
	reply := func(code, class, subject int) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, 1}, Message: "no"}
	}
	result := func(code uint16) error { return ldap.NewError(code, errors.New("no")) }
	for _, c := range []struct {
		name string
		at   place
		err  error
		down []place
		want string
	}{
		{"refused connection", front, refused, nil, "nothing listens on 192.0.2.1:143: the mmp role does not run there"},
		{"no socket", dir, noSocket, nil, "the directory role does not run on this machine"},
		{"timeout", agent, late, nil, "192.0.2.1:587 does not answer in time"},
		{"closed", front, io.EOF, nil, "closed the connection"},
		{"unknown host", agent, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host"}}, nil, "host name in 192.0.2.1:587 is unknown"},
		{"unknown CA", front, handshake(t, false, "localhost"), nil, "is not trusted"},
		{"another name", agent, handshake(t, true, "mail.example.com"), nil, "is not for the name mail.example.com"},
		{"no TLS there", dir, tls.RecordHeaderError{Msg: "first record does not look like TLS"}, nil, "does not speak TLS"},
		{"wrong password", front, no(imap.ResponseCodeAuthenticationFailed), nil, "it asks another directory"},
		{"access", front, no(imap.ResponseCodeAuthorizationFailed), nil, "mailAllowedServiceAccess"},
		{"no TLS offered", front, &imap.Error{Type: imap.StatusResponseTypeBad, Text: "STARTTLS is not available"}, nil, "the mmp at 192.0.2.1:143 offers no STARTTLS"},
		{"no TLS offered for submission", agent, fmt.Errorf("%w: no", errNoTLS), nil, "the mta at 192.0.2.1:587 offers no STARTTLS"},
		{"no copy", store, no(imap.ResponseCodeNonExistent), nil, "the mailbox is not there"},
		{"message too large", agent, &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "message too large"}, nil, "takes no message of that size"},
		{"a filter does not answer", agent, reply(451, 4, 7), nil, "a check of the MTA cannot be made now"},
		{"proxy login", front, no(imap.ResponseCodeUnavailable), nil, "or that store does not take this MMP"},
		{"throttled", front, no(imap.ResponseCodeLimit), nil, "too many failed logins"},
		{"no certificate", front, no(imap.ResponseCodePrivacyRequired), nil, "has no certificate"},
		{"store down", front, no(imap.ResponseCodeUnavailable), []place{store}, "the mmp cannot reach the store at 192.0.2.2:24 (mta.stores)"},
		{"store unknown", front, no(imap.ResponseCodeUnavailable), nil, "cannot reach the directory or the user's store"},
		{"quota", front, no(imap.ResponseCodeOverQuota), nil, "over its quota"},
		{"bye", front, &imap.Error{Type: imap.StatusResponseTypeBye}, nil, "has too many connections"},
		{"no mailHost", dir, errNoMailHost, nil, "no mailHost"},
		{"no entry", dir, errNoEntry, nil, "directory.suffix"},
		{"let in", front, errLetIn, nil, "does not verify passwords"},
		{"LMTP refused", agent, fmt.Errorf("%w: 0 messages", errNotThere), []place{store}, "the mta cannot reach the store at 192.0.2.2:24"},
		{"queued", agent, errNotThere, nil, "waits in the queue"},
		{"undeleted", front, errStillThere, nil, "did not keep the deletion"},
		{"535", agent, reply(535, 5, 7), nil, "it asks another directory"},
		{"454", agent, reply(454, 4, 7), nil, "the MTA cannot reach the directory"},
		{"550 5.1.1", agent, reply(550, 5, 1), nil, "does not know the user"},
		{"550 5.7.1", agent, reply(550, 5, 7), nil, "a rule or check"},
		{"452", agent, reply(452, 4, 2), nil, "disk is full"},
		{"451", agent, reply(451, 4, 4), []place{store}, "the mta cannot reach the store"},
		{"421", agent, reply(421, 4, 7), nil, "too many connections"},
		{"bind", dir, result(ldap.LDAPResultInvalidCredentials), nil, "does not take the password of directory.bind_dn"},
		{"no rights", dir, fmt.Errorf("adding user: %w", &directory.ResultError{Code: directory.InsufficientAccessRights}), nil, "may not make users"},
		{"plain text", dir, result(ldap.LDAPResultConfidentialityRequired), nil, "no password in plain text"},
		{"no suffix", dir, result(ldap.LDAPResultNoSuchObject), nil, "directory.suffix is not there"},
		{"no domain", dir, fmt.Errorf("adding user: %w", directory.ErrNotFound), nil, "the domain is not in the directory"},
		{"directory down", dir, directory.ErrUnavailable, nil, "the directory cannot be reached at ldap://dir.example.com"},
		{"unknown", agent, errors.New("something else"), nil, "the mta role failed"},
	} {
		d := diagnose(c.at, c.err, c.down)
		if c.err == nil || !strings.Contains(d.cause, c.want) || d.next == "" || strings.Contains(d.cause+d.next, "%!") {
			t.Errorf("%s (%v):\n\t%q, to do: %q\nwant\t%q", c.name, c.err, d.cause, d.next, c.want)
		}
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	return ln.Addr().String()
}

// handshake is why a certificate for localhost is refused, as a client says it
// that makes text of errors.
func handshake(t *testing.T, trusted bool, name string) error {
	t.Helper()
	cert, key, err := listen.SelfSigned(t.TempDir(), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	c, err := listen.LoadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := ""
	if trusted {
		ca = cert
	}
	trust, err := newTrust(config.Config{}, ca)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", c.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", ln.Addr().String(), trust.config(name))
	if err == nil {
		conn.Close()
	}
	return trust.blame(errors.New(fmt.Sprint("handshake failed: ", err)))
}
