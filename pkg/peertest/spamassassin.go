package peertest

import (
	"os"
	"testing"
)

// StartSpamAssassin runs SpamAssassin, asking nobody on the network, behind its
// milter until the test ends; it returns the milter's host:port. What scores
// ten or more is refused.
func StartSpamAssassin(t testing.TB) string {
	t.Helper()
	scanner := Program(t, "spamd", "spamd")
	milter := Program(t, "spamass-milter", "spamass-milter")
	Program(t, "spamc", "spamc") // the milter runs it
	dir, host := Folder(t), Host(t)
	args := []string{"-L", "-x", "-m", "1", "-s", "stderr", "-i", host, "-p", "7830", "-r", dir + "/spamd.pid", "-H", dir}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	start(t, dir, []string{host + ":7830"}, scanner, args...)
	address := host + ":7831"
	start(t, dir, []string{address}, milter, "-p", "inet:7831@"+host, "-r", "10", "--", "-d", host, "-p", "7830")
	return address
}
