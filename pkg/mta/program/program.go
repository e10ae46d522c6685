// Package program hands messages to the programs that the configuration
// registers by name: an action of the MTA, and so a mail.Deliverer. What a
// stranger or a user wrote never becomes a command: a program is an absolute
// path with fixed arguments, run without a shell and with an environment of
// its own; sender and recipient are in the variables SENDER and RECIPIENT.
package program

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"mailsrv/pkg/mail"
)

// Program is a registered program; it implements mail.Deliverer and may be
// used from many goroutines.
type Program struct {
	// Command is an absolute path and the arguments.
	Command []string
	// Timeout ends it, with all it started; 0: one minute.
	Timeout time.Duration
}

var _ mail.Deliverer = Program{}

// The exit codes with a meaning (sysexits.h). 0 is success; these are for good,
// all others are tried again.
const (
	exitUsage  = 64
	exitData   = 65
	exitNoUser = 67
	exitNoPerm = 77
	keptOutput = 200 // bytes of what it says that go into the log
)

// Deliver implements mail.Deliverer: one run for each recipient.
func (p Program) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	errs := make([]error, len(env.To))
	for i, to := range env.To {
		errs[i] = p.run(ctx, env.From, to.Address, body)
	}
	return errs
}

func (p Program) run(ctx context.Context, from, to mail.Address, body mail.Body) error {
	rc, err := body.Open()
	if err != nil {
		return fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Timeout, time.Minute))
	defer cancel()
	var said tail
	c := exec.CommandContext(ctx, p.Command[0], p.Command[1:]...)
	c.Env = []string{"PATH=/usr/bin:/bin", "SENDER=" + from.String(), "RECIPIENT=" + to.String()}
	c.Dir, c.Stdin, c.Stdout, c.Stderr = "/", rc, &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	err = c.Run()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case exited && ctx.Err() == nil:
		cause := fmt.Errorf("running %s: %w: %s", p.Command[0], err, said.String())
		switch exit.ExitCode() {
		case exitUsage, exitData, exitNoUser, exitNoPerm:
			return &mail.Status{Code: 554, Enhanced: [3]int{5, 3, 0}, Text: "the recipient's program refused the message", Err: cause}
		}
		err = cause
	}
	return mail.TryLater(3, 0, "the recipient's program failed, try again later", err)
}

// tail keeps the beginning of what a program says.
type tail struct{ b bytes.Buffer }

var _ io.Writer = (*tail)(nil)

// Write implements io.Writer; it takes all and keeps little.
func (t *tail) Write(p []byte) (int, error) {
	if room := keptOutput - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String is what was said, in one line.
func (t *tail) String() string { return strings.Join(strings.Fields(t.b.String()), " ") }
