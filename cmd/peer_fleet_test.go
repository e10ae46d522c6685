package cmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsrv/pkg/peertest"
)

// TestPeerFleet puts two MMPs, with one directory, before two stores of ours and
// a Dovecot: other people's clients read each user's mail through each MMP, and
// a store that dies under load is noticed by nobody but its own users.
func TestPeerFleet(t *testing.T) {
	const dovecot = "dovecot.example.test"
	d := peertest.StartDovecot(t, peertest.DovecotOptions{Name: dovecot, MasterUser: "mmp", MasterSecret: "of-the-mmp",
		Users: map[string]string{"dave@example.test": "not the one he knows"}})
	secret := filepath.Join(t.TempDir(), "master.secret")
	if err := os.WriteFile(secret, []byte("of-the-mmp\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, fmt.Sprintf("{host: %s, address: %q, pop3_address: %q, tls: starttls, ca: %s, kind: dovecot, proxy_name: mmp, secret_file: %s}", dovecot, d.IMAP, d.POP3, d.CA, secret))
	f.up(append(fleetOrder(), "second")...)
	f.admin("domain", "add", "example.test", "--mailhost", storeNames[0])
	users := map[string]string{"alice": storeNames[0], "bob": storeNames[1], "dave": dovecot}
	for name, host := range users {
		f.user(name + "@example.test")
		f.admin("user", "set", name+"@example.test", "mailhost="+host)
		add(t, f.mustDial(t, name+"@example.test"), "INBOX", "From: x@elsewhere.test\r\nSubject: for "+name+"\r\n\r\nHello "+name+".\r\n", imap.FlagFlagged)
	}
	x := &fleetClients{fleet: f}
	for name, address := range map[string]string{"first": f.imap, "second": f.second} {
		for user := range users {
			t.Run(name+" for "+user, func(t *testing.T) { x.read(t, address, user) })
		}
	}
	t.Run("a store dies under load", func(t *testing.T) { x.dies(t) })
}

type fleetClients struct{ *fleet }

// read has other people's programs read a user's one message.
func (x *fleetClients) read(t *testing.T, address, user string) {
	login, want := user+"@example.test", "Hello "+user+"."
	curl := peertest.Program(t, "curl", "curl")
	out := peertest.Client(t, "", curl, "-sS", "--cacert", x.cert, "--user", login+":"+x.password, "imaps://localhost:"+port(address)+"/INBOX;MAILINDEX=1")
	if !strings.Contains(out, want) {
		t.Errorf("curl:\n%s", out)
	}
	script := x.file("read.py", `
import imaplib, ssl, sys
m = imaplib.IMAP4_SSL("localhost", int(sys.argv[2]), ssl_context=ssl.create_default_context(cafile=sys.argv[1]))
m.authenticate("PLAIN", lambda _: ("\0" + sys.argv[3] + "\0" + sys.argv[4]).encode())
assert m.select()[1] == [b"1"]
assert sys.argv[5].encode() in m.fetch("1", "(BODY[])")[1][0][1]
m.logout()`)
	peertest.Client(t, "", peertest.Program(t, "python3", "python3"), script, x.cert, port(address), login, x.password, want)
	dir := t.TempDir()
	conf := x.file("fleet.mbsyncrc", fmt.Sprintf("IMAPAccount x\nHost localhost\nPort %s\nUser %s\nPass %s\nSSLType IMAPS\nCertificateFile %s\n\nIMAPStore far\nAccount x\n\nMaildirStore near\nInbox %s/INBOX\n\nChannel x\nFar :far:\nNear :near:\nCreate Near\nSyncState %s/state-\n",
		port(address), login, x.password, x.cert, dir, dir))
	peertest.Client(t, "", peertest.Program(t, "mbsync", "isync"), "-c", conf, "-a")
	if found, err := filepath.Glob(dir + "/INBOX/*/*"); err != nil || len(found) != 1 {
		t.Errorf("mbsync brought %q", found)
	}
	rc := filepath.Join(t.TempDir(), "fetchmailrc")
	got := filepath.Join(t.TempDir(), "got")
	if err := os.WriteFile(rc, fmt.Appendf(nil, "poll localhost service %s protocol IMAP user %q password %q ssl sslcertck sslcertfile %s keep fetchall mda \"cat >%s\"\n",
		port(address), login, x.password, x.cert, got), 0o600); err != nil {
		t.Fatal(err)
	}
	peertest.Client(t, "", peertest.Program(t, "fetchmail", "fetchmail"), "-f", rc, "--nosyslog", "--pidfile", rc+".pid", "--idfile", rc+".ids")
	if text, err := os.ReadFile(got); err != nil || !strings.Contains(string(text), want) {
		t.Errorf("fetchmail brought %q: %v", text, err)
	}
}

// dies kills a store while clients of all stores are at work through both MMPs.
func (x *fleetClients) dies(t *testing.T) {
	var dead atomic.Bool
	stop := make(chan struct{})
	var busy sync.WaitGroup
	var after sync.Map // what others did since the store died
	lost := make(chan error, 2)
	for _, address := range []string{x.imap, x.second} {
		alice := x.at(t, address, "alice@example.test")
		busy.Go(func() {
			for {
				if err := alice.Noop().Wait(); err != nil {
					lost <- err
					return
				}
			}
		})
		for _, user := range []string{"bob", "dave"} {
			c := x.at(t, address, user+"@example.test")
			n := &atomic.Int64{}
			after.Store(address+user, n)
			busy.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					got, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
					if err != nil || len(got) != 1 {
						t.Errorf("%s notices that another's store died: %d messages, %v", user, len(got), err)
						return
					}
					if dead.Load() {
						n.Add(1)
					}
				}
			})
		}
	}
	x.kill(storeNames[0])
	dead.Store(true)
	for range 2 {
		select {
		case err := <-lost:
			if err == nil {
				t.Error("a session goes on without its store")
			}
		case <-time.After(10 * time.Second):
			t.Error("a session hangs without its store")
		}
	}
	for _, address := range []string{x.imap, x.second} {
		for range 8 { // more than the guard tolerates
			begun := time.Now()
			if _, err := x.dialAt(address, "alice@example.test"); code(err) != imap.ResponseCodeUnavailable || time.Since(begun) > 6*time.Second {
				t.Errorf("a login to the dead store: %v after %v", err, time.Since(begun))
			}
		}
		for _, user := range []string{"bob", "dave"} {
			x.at(t, address, user+"@example.test")
		}
	}
	peertest.Eventually(t, 20*time.Second, func() (err error) {
		after.Range(func(who, n any) bool {
			if n := n.(*atomic.Int64).Load(); n < 50 {
				err = fmt.Errorf("%v did %d things", who, n)
			}
			return true
		})
		return err
	})
	close(stop)
	busy.Wait()
	x.up(storeNames[0])
	for _, address := range []string{x.imap, x.second} {
		peertest.Eventually(t, 40*time.Second, func() error {
			c, err := x.dialAt(address, "alice@example.test")
			if err != nil {
				return err
			}
			return errors.Join(c.Logout().Wait(), c.Close())
		})
	}
}

// at is a client that has selected INBOX.
func (x *fleetClients) at(t *testing.T, address, login string) *imapclient.Client {
	t.Helper()
	c, err := x.dialAt(address, login)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}
