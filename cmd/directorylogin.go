package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
)

// tracer is a tree that tells what it is asked and what it answers.
type tracer struct {
	directory.Tree
	out io.Writer
}

// Search implements directory.Tree.
func (t tracer) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		scope := [...]string{"base", "one", "sub"}[q.Scope]
		fmt.Fprintf(t.out, "search base=%q scope=%s filter=%s\n", q.Base, scope, q.Filter)
		n := 0
		for e, err := range t.Tree.Search(ctx, q) {
			if err != nil {
				fmt.Fprintf(t.out, "  error: %v\n", err)
			} else {
				n++
				fmt.Fprintf(t.out, "  found: %s\n", e.DN)
			}
			if !yield(e, err) {
				return
			}
		}
		if n == 0 {
			fmt.Fprintln(t.out, "  nothing found")
		}
	}
}

// Bind implements directory.Tree.
func (t tracer) Bind(ctx context.Context, dn directory.DN, password string) error {
	err := t.Tree.Bind(ctx, dn, password)
	answer := "ok"
	if err != nil {
		answer = err.Error()
	}
	fmt.Fprintf(t.out, "bind dn=%q: %s\n", dn, answer)
	return err
}

// errLogin is the end of a test that found why a login would fail; what it found
// is printed.
var errLogin = errors.New("the login would fail")

// testLogin tells how a login goes, step by step.
func testLogin(ctx context.Context, cfg config.Config, tree directory.Tree, login string, service directory.Service, stdin bool, out io.Writer) error {
	o, err := daemon.View(cfg)
	if err != nil {
		return err
	}
	view := directory.NewView(tracer{tree, out}, o)
	u, err := view.User(ctx, login)
	fails := func(why string, args ...any) error {
		fmt.Fprintf(out, "result: "+why+"\n", args...)
		return errLogin
	}
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return fails("no such user: %v; every client hears that the credentials are wrong", err)
	case errors.Is(err, directory.ErrAmbiguous):
		return fails("%v; the login is put off until one of them is changed", err)
	case err != nil:
		return fmt.Errorf("asking for %s: %w", login, err)
	}
	fmt.Fprintf(out, "user %s: account %s, mail %s, mail host %q, status %s\n", u.DN, u.Account(), u.Mail, u.MailHost, u.Status)
	if stdin {
		given, _, err := password(true)
		if err != nil {
			return err
		}
		if _, err := view.VerifyFor(ctx, login, given, service); err != nil {
			return fails("password: %v", err)
		}
	}
	if !u.Status.MayLogin() {
		return fails("the status forbids it: %s", u.About(directory.AboutStatus))
	}
	if from := netip.MustParseAddr("192.0.2.1"); !u.Allows(service, from) {
		return fails("service access forbids %s from elsewhere: user %q, domain %q", service, u.ServiceAccess[0], u.ServiceAccess[1])
	}
	if u.MailHost == "" {
		fmt.Fprintln(out, "note: no mail host; the MMP's default_host is used")
	}
	fmt.Fprintln(out, "result: the login would succeed")
	return nil
}
