package peertest

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// DovecotOptions are the people of a Dovecot.
type DovecotOptions struct {
	// Name is the host's name, which its certificate bears beside the address.
	Name string
	// Users maps logins, which are addresses, to passwords.
	Users map[string]string
	// MasterUser may log everybody in, as "user*MasterUser"; empty: nobody may.
	MasterUser, MasterSecret string
}

// Dovecot is a running instance: IMAP, POP3 and LMTP with STARTTLS, over Maildirs.
type Dovecot struct {
	// Host is its address; CA the PEM file that its certificate is checked with.
	Host, CA string
	// IMAP, IMAPS, POP3, LMTP and SASL are host:port. SASL is its authentication
	// server, for Postfix.
	IMAP, IMAPS, POP3, LMTP, SASL string

	path, dir string
	daemon    *daemon
}

// StartDovecot runs one until the test ends. It needs root, for Dovecot's
// processes have users of their own.
func StartDovecot(t testing.TB, o DovecotOptions) *Dovecot {
	t.Helper()
	path := Program(t, "dovecot", "dovecot-core")
	for protocol, debian := range map[string]string{"imap": "dovecot-imapd", "pop3": "dovecot-pop3d", "lmtp": "dovecot-lmtpd"} {
		if !executable("/usr/lib/dovecot/" + protocol) {
			missing(t, "Dovecot's %s is not installed (Debian's package %s)", protocol, debian)
		}
	}
	needRoot(t, "Dovecot")
	if v := Client(t, "", path, "--version"); !strings.HasPrefix(v, "2.3.") {
		missing(t, "Dovecot is %q; its configuration here is that of 2.3", strings.TrimSpace(v))
	}
	mail, err := user.Lookup("mail")
	must(t, err)
	dir, host := Folder(t), Host(t)
	d := &Dovecot{path: path, dir: dir, Host: host, IMAP: host + ":143", IMAPS: host + ":993", POP3: host + ":110", LMTP: host + ":24", SASL: host + ":12345"}
	var key string
	d.CA, key = certificate(t, dir, o.Name, host)
	home := filepath.Join(dir, "mail")
	must(t, os.Mkdir(home, 0o700))
	must(t, os.Chown(home, id(t, mail.Uid), id(t, mail.Gid)))
	var users strings.Builder
	for login, password := range o.Users {
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", login, password)
	}
	write(t, filepath.Join(dir, "users"), users.String(), 0o644)
	master := ""
	if o.MasterUser != "" {
		write(t, filepath.Join(dir, "masters"), o.MasterUser+":{PLAIN}"+o.MasterSecret+"\n", 0o644)
		master = fmt.Sprintf("auth_master_user_separator = *\npassdb {\n  driver = passwd-file\n  master = yes\n  args = %s/masters\n}\n", dir)
	}
	conf := fmt.Sprintf(dovecotConf, dir, host, d.CA, key, mail.Uid, mail.Gid) + master + fmt.Sprintf(dovecotPeople, dir)
	write(t, filepath.Join(dir, "dovecot.conf"), conf, 0o644)
	d.Start(t)
	return d
}

// Start starts it again after Stop, on the same mail.
func (d *Dovecot) Start(t testing.TB) {
	t.Helper()
	d.daemon = start(t, d.dir, []string{d.IMAP, d.IMAPS, d.POP3, d.LMTP, d.SASL}, d.path, "-F", "-c", filepath.Join(d.dir, "dovecot.conf"))
}

// Stop ends it, and with it its sessions.
func (d *Dovecot) Stop(t testing.TB) { d.daemon.stop(t) }

// Log is what Dovecot wrote down: a line for each login and delivery.
func (d *Dovecot) Log() string { return d.daemon.messages() }

func id(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// dovecotConf wants the folder, the address, certificate and key, uid and gid.
const dovecotConf = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
listen = %[2]s
protocols = imap pop3 lmtp
ssl = yes
ssl_cert = <%[3]s
ssl_key = <%[4]s
auth_mechanisms = plain login
disable_plaintext_auth = yes
login_trusted_networks = 127.0.0.0/8
auth_failure_delay = 0
mail_location = maildir:~/Maildir
mail_uid = %[5]s
mail_gid = %[6]s
first_valid_uid = %[5]s
first_valid_gid = %[6]s
lda_mailbox_autocreate = yes
lmtp_save_to_detail_mailbox = yes
recipient_delimiter = +
hostname = %[2]s
postmaster_address = postmaster@localhost
default_process_limit = 20
namespace inbox {
  inbox = yes
}
service imap-login {
  inet_listener imap {
    port = 143
  }
  inet_listener imaps {
    port = 993
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = 110
  }
  inet_listener pop3s {
    port = 0
  }
}
service lmtp {
  inet_listener lmtp {
    port = 24
  }
}
service auth {
  inet_listener sasl {
    port = 12345
  }
}
`

// dovecotPeople wants the folder.
const dovecotPeople = `passdb {
  driver = passwd-file
  args = username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = home=%[1]s/mail/%%u
}
`
