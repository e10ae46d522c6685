package smtpserver

import (
	"context"
	"testing"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
)

// alone is a directory of alice.
type alone struct{ directory.Directory }

func (alone) Verify(_ context.Context, login, password string) (directory.User, error) {
	switch {
	case login == "outage":
		return directory.User{}, directory.ErrUnavailable
	case login == "closed":
		return directory.User{UID: login, Domain: "us.test", Status: directory.Inactive}, nil
	case login != "alice" || password != "secret":
		return directory.User{}, directory.ErrBadCredentials
	}
	return directory.User{UID: "alice", Domain: "us.test", Status: directory.Active}, nil
}

// TestLogins is the door over package auth as it is.
func TestLogins(t *testing.T) {
	in := &intake{}
	addr := start(t, Options{Intake: in, Submission: true, Authenticator: auth.New(auth.Options{Directory: alone{}})})
	const opened = "S: 220\nC: EHLO x\nS: 250\n"
	tests := []struct{ name, script string }{
		{"PLAIN", "C: AUTH PLAIN " + plain("", "alice", "secret") + "\nS: 235 2.7.0"},
		{"PLAIN without initial response", "C: auth plain\nS: 334 |\nC: " + plain("alice", "alice", "secret") + "\nS: 235 2.7.0"},
		{"LOGIN", "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: " + b64("alice") + "\nS: 334 UGFzc3dvcmQ6\nC: " + b64("secret") + "\nS: 235 2.7.0"},
		{"LOGIN with initial response", "C: AUTH LOGIN " + b64("alice") + "\nS: 334 UGFzc3dvcmQ6\nC: " + b64("secret") + "\nS: 235 2.7.0"},
		{"another's authzid", "C: AUTH PLAIN " + plain("bob", "alice", "secret") + "\nS: 535 5.7.8"},
		{"unknown user", "C: AUTH PLAIN " + plain("", "carol", "secret") + "\nS: 535 5.7.8"},
		{"empty password", "C: AUTH PLAIN " + plain("", "alice", "") + "\nS: 535 5.7.8"},
		{"empty response", "C: AUTH PLAIN =\nS: 501 5.5.2"},
		{"one NUL", "C: AUTH PLAIN " + b64("alice\x00secret") + "\nS: 501 5.5.2"},
		{"three NULs", "C: AUTH PLAIN " + b64("\x00alice\x00sec\x00ret") + "\nS: 501 5.5.2"},
		{"cancelled", "C: AUTH LOGIN\nS: 334\nC: *\nS: 501 5.7.0"},
		{"outage", "C: AUTH PLAIN " + plain("", "outage", "x") + "\nS: 454 4.7.0"},
		{"inactive", "C: AUTH PLAIN " + plain("", "closed", "x") + "\nS: 535 5.7.13"},
		{"unknown mechanism", "C: AUTH GSSAPI\nS: 504 5.5.4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { chat(t, dial(t, addr), opened+tt.script) })
	}
}
