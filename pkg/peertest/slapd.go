package peertest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// SlapdOptions are the tree of a slapd.
type SlapdOptions struct {
	// Suffix is the DN above all, and cn=admin below it may do everything with
	// Password.
	Suffix, Password string
	// Schema are further files, after core, cosine, inetorgperson and dyngroup.
	Schema []string
	// LDIF is loaded before the server starts; it may be empty.
	LDIF string
	// Index are lines of slapd.conf about indexes besides those of objectClass and
	// uid; empty: mail for equality.
	Index string
}

// Slapd is OpenLDAP's server over an mdb database, with StartTLS.
type Slapd struct {
	// URL is ldap://Host:port; CA the PEM file that its certificate, for Host,
	// is checked with.
	URL, Host, CA string

	path, conf string
	daemon     *daemon
}

// StartSlapd runs one until the test ends. Searches of more than 100 entries
// must be paged, but for the admin's.
func StartSlapd(t testing.TB, o SlapdOptions) *Slapd {
	t.Helper()
	s := &Slapd{path: Program(t, "slapd", "slapd"), Host: Host(t)}
	dir := Folder(t)
	must(t, os.Mkdir(filepath.Join(dir, "db"), 0o700))
	s.URL = "ldap://" + s.Host + ":10389"
	var key string
	s.CA, key = certificate(t, dir, s.Host)
	schema := ""
	for _, file := range o.Schema {
		absolute, err := filepath.Abs(file)
		must(t, err)
		schema += "include " + absolute + "\n"
	}
	s.conf = write(t, filepath.Join(dir, "slapd.conf"), fmt.Sprintf(slapdConf, dir, schema, s.CA, key, o.Suffix, o.Password, cmp.Or(o.Index, "index mail eq")), 0o600)
	if o.LDIF != "" {
		Client(t, o.LDIF, Program(t, "slapadd", "slapd"), "-f", s.conf)
	}
	s.Start(t)
	return s
}

// Start starts it again after Stop, on the same entries.
func (s *Slapd) Start(t testing.TB) {
	t.Helper()
	address := strings.TrimPrefix(s.URL, "ldap://")
	s.daemon = start(t, filepath.Dir(s.conf), []string{address}, s.path, "-h", s.URL, "-f", s.conf, "-d", "none")
}

// Stop ends it; its clients' connections are closed.
func (s *Slapd) Stop(t testing.TB) { s.daemon.stop(t) }

// slapdConf wants the folder, further lines, certificate and key, suffix,
// password and lines of indexes. The server's users have no rights: it runs as whoever runs the test.
const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/dyngroup.schema
%[2]smodulepath /usr/lib/ldap
moduleload back_mdb
moduleload refint
moduleload ppolicy
pidfile %[1]s/pid
TLSCertificateFile %[3]s
TLSCertificateKeyFile %[4]s
database mdb
maxsize 1073741824
index objectClass,uid eq
%[7]s
suffix %[5]q
rootdn "cn=admin,%[5]s"
rootpw %[6]q
directory %[1]s/db
sizelimit size.soft=100 size.hard=unlimited size.prtotal=unlimited
overlay refint
refint_attributes uniqueMember owner
overlay ppolicy
ppolicy_hash_cleartext
`
