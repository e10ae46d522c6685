package peertest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// PostfixOptions are what a Postfix knows.
type PostfixOptions struct {
	// Domain is the one whose mail it delivers, to Users there, by LMTP to
	// Store; everybody of Store may submit.
	Domain string
	Users  []string
	Store  *Dovecot
	// Next maps further domains to the host:port that takes their mail. It is
	// sent there by TLS alone, with a certificate for "localhost" that CA, a PEM
	// file, vouches for.
	Next map[string]string
	CA   string
}

// Postfix is a running instance.
type Postfix struct {
	// SMTP takes mail for its own domain and for those of Next, Submission all
	// mail after STARTTLS and AUTH. Both are host:port.
	SMTP, Submission string
	// CA is the PEM file that its certificate, for the host, is checked with.
	Host, CA string

	dir      string
	sendmail string
	daemon   *daemon
}

// StartPostfix runs one until the test ends. It needs root, for Postfix's
// processes have users of their own.
func StartPostfix(t testing.TB, o PostfixOptions) *Postfix {
	t.Helper()
	master := Program(t, "master", "postfix")
	needRoot(t, "Postfix")
	dir, host := Folder(t), Host(t)
	p := &Postfix{Host: host, SMTP: host + ":25", Submission: host + ":587", dir: dir, sendmail: Program(t, "sendmail", "postfix")}
	var key string
	p.CA, key = certificate(t, dir, host)
	owner, err := user.Lookup("postfix")
	must(t, err)
	for _, name := range []string{"etc", "queue", "data"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	must(t, os.Chown(filepath.Join(dir, "data"), id(t, owner.Uid), -1))
	users, next := inline(o.Users, "OK"), ""
	for _, domain := range slices.Sorted(maps.Keys(o.Next)) {
		at := strings.LastIndexByte(o.Next[domain], ':')
		next += fmt.Sprintf(" { %s = smtp:[%s]%s }", domain, o.Next[domain][:at], o.Next[domain][at:])
	}
	conf := fmt.Sprintf(postfixMain, dir, host, p.CA, key, o.Domain, users, o.Store.LMTP, o.Store.SASL, next,
		strings.Join(slices.Sorted(maps.Keys(o.Next)), " "), o.CA)
	write(t, filepath.Join(dir, "etc", "main.cf"), conf, 0o644)
	write(t, filepath.Join(dir, "etc", "master.cf"), fmt.Sprintf(postfixMaster, host), 0o644)
	if out, err := exec.Command(Program(t, "postfix", "postfix"), "-c", filepath.Join(dir, "etc"), "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check, which makes the queue's folders: %v\n%s", err, out)
	}
	p.daemon = start(t, dir, []string{p.SMTP, p.Submission}, master, "-d", "-c", filepath.Join(dir, "etc"))
	return p
}

// inline are the entries of an inline table.
func inline(keys []string, value string) string {
	var s strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&s, " { %s = %s }", k, value)
	}
	return s.String()
}

// Sendmail hands a message in, as a program on Postfix's own host does.
func (p *Postfix) Sendmail(t testing.TB, text string, args ...string) {
	t.Helper()
	Client(t, text, p.sendmail, append([]string{"-C", filepath.Join(p.dir, "etc")}, args...)...)
}

// Log is what Postfix wrote down: its dialogues with other hosts, and a line
// for each delivery.
func (p *Postfix) Log() string { return p.daemon.messages() }

// postfixMain wants the folder, the host, certificate and key, the domain, its
// users, LMTP and SASL of the store, the routes, their domains, and their CA.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file_prefixes = %[1]s
maillog_file = %[1]s/log
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.%[5]s
mydestination =
mynetworks =
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = %[5]s
virtual_mailbox_maps = inline:{%[6]s }
virtual_transport = lmtp:inet:%[7]s
transport_maps = inline:{%[9]s }
relay_domains = %[10]s
default_transport = error:5.4.4 this host sends no mail to the world
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_tls_cert_file = %[3]s
smtpd_tls_key_file = %[4]s
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:%[8]s
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = localhost
smtp_tls_CAfile = %[11]s
smtp_tls_loglevel = 1
disable_dns_lookups = yes
minimal_backoff_time = 2s
queue_run_delay = 2s
`

// postfixMaster wants the host.
const postfixMaster = `%[1]s:25 inet n - n - - smtpd
%[1]s:587 inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp -o debug_peer_list=127.0.0.1 -o debug_peer_level=1
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
