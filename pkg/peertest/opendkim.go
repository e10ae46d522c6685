package peertest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// StartOpenDKIM runs OpenDKIM as a milter that verifies signatures, and adds
// its Authentication-Results, until the test ends; it returns host:port. keys
// maps the names of key records, such as sel._domainkey.example.org, to their
// values: it asks no DNS.
func StartOpenDKIM(t testing.TB, keys map[string]string) string {
	t.Helper()
	path := Program(t, "opendkim", "opendkim")
	dir, host := Folder(t), Host(t)
	var lines strings.Builder
	for name, value := range keys {
		fmt.Fprintf(&lines, "%s %s\n", name, value)
	}
	records := write(t, filepath.Join(dir, "keys"), lines.String(), 0o644)
	conf := write(t, filepath.Join(dir, "opendkim.conf"),
		fmt.Sprintf("Mode v\nSocket inet:8891@%s\nTestPublicKeys %s\nAuthservID opendkim.test\nInternalHosts 192.0.2.254\n", host, records), 0o644)
	address := host + ":8891"
	start(t, dir, []string{address}, path, "-f", "-x", conf)
	return address
}
