package smtpwire

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
)

// TestSection3Limits holds the limits of a public door against section 3 of
// hardening.md, by number: each of them is met by a test of the door.
func TestSection3Limits(t *testing.T) {
	want := Limits{
		Command: 300 * time.Second, Handshake: 10 * time.Second, Prelude: 10 * time.Minute,
		SoftErrors: 10, HardErrors: 20, ErrorDelay: time.Second, Junk: 100, Logins: 3,
		Data: 3 * time.Minute,
	}
	if diff := cmp.Diff(want, PublicLimits()); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	for name, got := range map[string][2]int{
		"command line": {maxCommand, 512}, "with parameters": {maxParams, 2048}, "AUTH": {maxAuth, 12_288}, "text line": {maxText, 8192},
		"local part": {mail.MaxLocal, 64}, "domain": {mail.MaxDomain, 255}, "path": {mail.MaxPath, 256},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", name, got[0], got[1])
		}
	}
}
