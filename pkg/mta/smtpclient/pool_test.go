package smtpclient_test

import (
	"slices"
	"testing"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/smtpclient"
)

const (
	greets = "S: 220 mx.far.test\nC: EHLO mx.us.example\nS: 250 mx.far.test\n"
	takes  = "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: DATA\nS: 354 go on\nC: ...\nS: 250 got it\n"
	leaves = "C: QUIT\nS: 221 bye\n"
)

// TestConnectionsAreUsedAgain: which dialogue a second message finds.
func TestConnectionsAreUsedAgain(t *testing.T) {
	tests := []struct {
		name      string
		dialogues []string // one a connection
		want      []string // outcomes, one a message
	}{
		{"two messages, one connection", []string{greets + takes + takes + leaves}, []string{"ok", "ok"}},
		{"the host has hung up meanwhile", []string{greets + takes, greets + takes + leaves}, []string{"ok", "ok"}},
		{"the host closes when asked", []string{greets + takes + "C: MAIL FROM:<s@us.example>\nS: 421 too long idle", greets + takes + leaves}, []string{"ok", "ok"}},
		{"what was refused ends the connection", []string{greets + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 550 no\nC: RSET\nS: 250 ok\n" + leaves, greets + takes + leaves},
			[]string{"550 5.0.0 mx.far.test said: 550 no", "ok"}},
		{"a host that fails in the middle is not asked twice", []string{greets + takes + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>"},
			[]string{"ok", "451 4.4.2 the connection to mx.far.test failed at RCPT"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.domain("far.test", "mx.far.test.")
			w.address("mx.far.test", "192.0.2.1")
			c := smtpclient.New(w.options())
			t.Cleanup(func() { c.Close() })
			var got []string
			for i := range 2 {
				if i < len(tt.dialogues) {
					w.serve("192.0.2.1:25", chat(t, tt.dialogues[i]))
				}
				got = append(got, replies(c.Deliver(t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter)))...)
				if i == 0 && len(tt.dialogues) > 1 && tt.name == "the host has hung up meanwhile" {
					w.wg.Wait()
				}
			}
			c.Close()
			w.wg.Wait()
			if !slices.Equal(got, tt.want) || len(w.dials) != len(tt.dialogues) {
				t.Errorf("%q over %d connections, want %q over %d", got, len(w.dials), tt.want, len(tt.dialogues))
			}
		})
	}
}

// TestSharedConnections: the second message to another domain behind the
// same host, and a relay by name, use the connection too.
func TestSharedConnections(t *testing.T) {
	w := newWorld(t)
	for _, d := range []string{"far.test", "near.test"} {
		w.domain(d, "mx.far.test.")
	}
	w.address("mx.far.test", "192.0.2.1")
	w.serve("192.0.2.1:25", chat(t, greets+takes+"C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@near.test>\nS: 250 ok\nC: DATA\nS: 354 go on\nC: ...\nS: 250 got it\n"+takes+leaves))
	c := smtpclient.New(w.options())
	for i, step := range []struct {
		via mail.Deliverer
		to  string
	}{{c, "a@far.test"}, {c, "a@near.test"}, {c.Via("mx.far.test"), "a@far.test"}} {
		if errs := step.via.Deliver(t.Context(), envelope(t, "s@us.example", step.to), mail.Bytes(letter)); errs[0] != nil {
			t.Fatal(i, errs)
		}
	}
	c.Close()
	if len(w.dials) != 1 {
		t.Errorf("%d connections", len(w.dials))
	}
}
