package smtpserver

import (
	"testing"

	"mailsrv/pkg/auth"
)

// TestS14Enumeration: no command tells users from nobody, and neither does the
// answer to a login.
func TestS14Enumeration(t *testing.T) {
	addr := start(t, Options{Intake: &intake{}, Submission: true, Authenticator: auth.New(auth.Options{Directory: alone{}})})
	const opened = "S: 220\nC: EHLO x\nS: 250\n"
	chat(t, dial(t, addr), opened+"C: VRFY alice\nS: 252 2.0.0 send some mail and see\nC: VRFY nobody\nS: 252 2.0.0 send some mail and see\n"+
		"C: EXPN staff\nS: 502 5.5.1\nC: EXPN nobody\nS: 502 5.5.1")
	for _, who := range []string{"alice", "nobody"} {
		chat(t, dial(t, addr), opened+"C: AUTH PLAIN "+plain("", who, "wrong")+"\nS: 535 5.7.8 bad credentials")
	}
}

// TestS15BruteForce: three failed logins end a connection. How addresses and
// accounts are slowed down is proved in package auth.
func TestS15BruteForce(t *testing.T) {
	addr := start(t, Options{Intake: &intake{}, Submission: true, Authenticator: auth.New(auth.Options{Directory: alone{}})})
	wrong := "C: AUTH PLAIN " + plain("", "alice", "wrong")
	chat(t, dial(t, addr), "S: 220\nC: EHLO x\nS: 250\n"+wrong+"\nS: 535 5.7.8\n"+wrong+"\nS: 535 5.7.8\n"+wrong+"\nS: 421 4.7.0 too many failed logins")
}
