package ldapserver_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
	"mailsrv/pkg/peertest"
	"mailsrv/pkg/wire/ldapwire"
)

// office serves example.com with the user ann, and logins of users by name.
func office(t *testing.T, l net.Listener, change func(*auth.Logins, *tls.Config) (logins any)) *tls.Config {
	t.Helper()
	tree := filled(t, 0)
	where := directory.ViewOptions{Base: base(), DefaultDomain: "example.com"}
	p := directory.NewProvisioner(tree, where)
	must(t, p.AddDomain(t.Context(), "example.com", ""))
	must(t, p.AddUser(t.Context(), "ann@example.com", "", "secret-ann", ""))
	o := options(tree)
	var clientTLS *tls.Config
	o.TLS, clientTLS, _ = certificate(t)
	logins := auth.New(auth.Options{Directory: directory.NewView(tree, where)})
	o.Logins = logins
	if change != nil {
		o.Logins = change(logins, o.TLS).(interface {
			auth.Authenticator
			Guard(context.Context, auth.Client, string, func() error) error
		})
	}
	serve(t, l, o)
	return clientTLS
}

func annDN() string { return "uid=ann,ou=People,o=example.com,o=mail" }

// scram does a SCRAM-SHA-256 login (RFC 5802, RFC 7677) and returns its result.
func (c *raw) scram(id int, name, pass string, binding []byte) ldapwire.Result {
	c.t.Helper()
	mechanism, gs2 := "SCRAM-SHA-256", "n,,"
	if binding != nil {
		mechanism, gs2 = "SCRAM-SHA-256-PLUS", "p=tls-exporter,,"
	}
	step := func(id int, credentials string) *ldapwire.BindResponse {
		c.say(ldapwire.Message{ID: id, Op: &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: mechanism, Credentials: credentials, HasCredentials: true}})
		return c.hear().Op.(*ldapwire.BindResponse)
	}
	bare := "n=" + name + ",r=clientnonce"
	first := step(id, gs2+bare)
	if first.Code != int(directory.SASLBindInProgress) {
		return first.Result
	}
	fields := strings.Split(first.ServerCredentials, ",")
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	must(c.t, err)
	n, err := strconv.Atoi(fields[2][2:])
	must(c.t, err)
	secrets := password.DeriveSCRAM(pass, salt, n)
	without := "c=" + base64.StdEncoding.EncodeToString(append([]byte(gs2), binding...)) + "," + fields[0]
	said := bare + "," + first.ServerCredentials + "," + without
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	salted := pbkdf2(pass, salt, n)
	proof := mac(salted, "Client Key")
	subtle.XORBytes(proof, proof, mac(secrets.StoredKey, said))
	final := step(id+1, without+",p="+base64.StdEncoding.EncodeToString(proof))
	if final.Code == int(directory.SASLBindInProgress) {
		if want := "v=" + base64.StdEncoding.EncodeToString(mac(secrets.ServerKey, said)); final.ServerCredentials != want {
			c.t.Errorf("the server proves %q, want %q", final.ServerCredentials, want)
		}
		final = step(id+2, "")
	}
	return final.Result
}

// pbkdf2 is RFC 8018 §5.2 for one block of SHA-256.
func pbkdf2(pass string, salt []byte, n int) []byte {
	h := hmac.New(sha256.New, []byte(pass))
	h.Write(append(slices.Clone(salt), 0, 0, 0, 1))
	u := h.Sum(nil)
	out := slices.Clone(u)
	for range n - 1 {
		h.Reset()
		h.Write(u)
		u = h.Sum(nil)
		subtle.XORBytes(out, out, u)
	}
	return out
}

func (c *raw) whoami(id int) string {
	c.say(ldapwire.Message{ID: id, Op: &ldapwire.ExtendedRequest{OID: ldapwire.OIDWhoAmI}})
	return c.hear().Op.(*ldapwire.ExtendedResponse).Value
}

// TestSASLLogins: users by name, with SCRAM and PLAIN, and what must not do.
func TestSASLLogins(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	clientTLS := office(t, l, nil)
	c := dialRaw(t, l)
	id := 10
	expect := func(what string, got ldapwire.Result, want directory.ResultCode) {
		t.Helper()
		id += 10
		who := c.whoami(id)
		if got.Code != int(want) || (who == "dn:"+annDN()) != (want == directory.Success) {
			t.Errorf("%s: %+v, then %q is bound", what, got, who)
		}
		id++
	}
	expect("SCRAM", c.scram(id, "ann", "secret-ann", nil), directory.Success)
	expect("SCRAM by address", c.scram(id, "ann@example.com", "secret-ann", nil), directory.Success)
	expect("SCRAM, wrong password", c.scram(id, "ann", "secret-ben", nil), directory.InvalidCredentials)
	expect("SCRAM, nobody", c.scram(id, "nobody", "secret-ann", nil), directory.InvalidCredentials)
	ask := func(req *ldapwire.BindRequest) ldapwire.Result {
		id++
		res, _ := c.ask(id, req)
		return res
	}
	expect("PLAIN", ask(plain("", "ann", "secret-ann")), directory.Success)
	expect("PLAIN, wrong password", ask(plain("", "ann", "x")), directory.InvalidCredentials)
	expect("PLAIN as another", ask(plain("ben", "ann", "secret-ann")), directory.InvalidCredentials)
	expect("garbage", ask(&ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "SCRAM-SHA-256", Credentials: "garbage", HasCredentials: true}), directory.ProtocolError)
	// A bind of another kind ends an exchange (RFC 4511 §4.2.1): its rest is a new beginning.
	expect("first step", ask(&ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "SCRAM-SHA-256", Credentials: "n,,n=ann,r=clientnonce", HasCredentials: true}), directory.SASLBindInProgress)
	expect("another kind", ask(simple(annDN(), "x")), directory.InvalidCredentials)
	expect("the rest", ask(&ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "SCRAM-SHA-256", Credentials: "c=biws,r=x,p=AAAA", HasCredentials: true}), directory.ProtocolError)

	secure := tls.Client(startTLS(t, l), clientTLS)
	must(t, secure.Handshake())
	state := secure.ConnectionState()
	binding, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	must(t, err)
	c = rawOf(t, secure)
	expect("SCRAM-PLUS", c.scram(id, "ann", "secret-ann", binding), directory.Success)
	binding[0] ^= 1
	expect("SCRAM-PLUS of another channel", c.scram(id, "ann", "secret-ann", binding), directory.InvalidCredentials)
}

// counted tells how often it guarded a password.
type counted struct {
	*auth.Logins
	n atomic.Int32
}

func (c *counted) Guard(ctx context.Context, from auth.Client, account string, prove func() error) error {
	c.n.Add(1)
	return c.Logins.Guard(ctx, from, account, prove)
}

// TestGuessingIsGuarded: passwords are proved under the throttle of all logins,
// but for those that a service asks about, which has its own.
func TestGuessingIsGuarded(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	var guard *counted
	office(t, l, func(logins *auth.Logins, _ *tls.Config) any {
		guard = &counted{Logins: logins}
		return guard
	})
	if code := dialRaw(t, l).bind(directory.MustParseDN(annDN()), "wrong"); code != directory.InvalidCredentials || guard.n.Load() != 1 {
		t.Errorf("%d, guarded %d times", code, guard.n.Load())
	}
	service := dialRaw(t, l)
	if code := service.bind(admin(), secret); code != directory.Success || guard.n.Load() != 2 {
		t.Errorf("%d, guarded %d times", code, guard.n.Load())
	}
	if code := dialRaw(t, l).bind(directory.MustParseDN(annDN()), "wrong"); code != directory.InvalidCredentials || guard.n.Load() != 2 {
		t.Errorf("beside a service: %d, guarded %d times", code, guard.n.Load())
	}
	service.bind(directory.DN{}, "")
	if code := dialRaw(t, l).bind(directory.MustParseDN(annDN()), "wrong"); code != directory.InvalidCredentials || guard.n.Load() != 3 {
		t.Errorf("after the service: %d, guarded %d times", code, guard.n.Load())
	}
}

// TestCyrusSASL: OpenLDAP's tools by way of Cyrus's library.
func TestCyrusSASL(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	office(t, l, nil)
	for _, mechanism := range []string{"SCRAM-SHA-256", "PLAIN"} {
		cmd := exec.CommandContext(t.Context(), peertest.Program(t, "ldapwhoami", "ldap-utils"), "-Q", "-Y", mechanism, "-O", "none", "-H", "ldap://"+l.Addr().String(), "-U", "ann", "-w", "secret-ann")
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "dn:"+annDN() {
			t.Errorf("%s: %v\n%s", mechanism, err, out)
		}
	}
}
