package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
)

// rehearse applies an LDIF file to a copy of the directory, and tells what
// became different, and what that does to mail. The directory itself is only
// read.
func rehearse(ctx context.Context, cfg config.Config, tree directory.Editor, in io.Reader, out io.Writer) (err error) {
	scratch, drop, err := daemon.Scratch(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	before, err := entries(ctx, tree, cfg.Directory.Suffix)
	if err != nil {
		return err
	}
	for _, e := range before {
		if e.HasClass("mailsrvAppPassword") { // its password is not told, and must be there
			e.Attributes = append(e.Attributes, directory.Attribute{Name: "userPassword", Values: []string{"{SSHA}not told"}})
		}
		if err := scratch.Add(ctx, e); err != nil {
			return fmt.Errorf("copying %s: %w", e.DN, err)
		}
	}
	mailBefore, err := mailOf(ctx, cfg, scratch)
	if err != nil {
		return err
	}
	before, err = entries(ctx, scratch, cfg.Directory.Suffix)
	if err != nil {
		return err
	}
	n, failed := importLDIF(ctx, scratch, cfg.Directory.Suffix, in)
	after, err := entries(ctx, scratch, cfg.Directory.Suffix)
	if err != nil {
		return err
	}
	showDifference(out, before, after)
	mailAfter, err := mailOf(ctx, cfg, scratch)
	if err != nil {
		return err
	}
	for _, line := range mailBefore.effects(mailAfter) {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintf(out, "%d records would be applied; nothing was changed\n", n)
	return failed
}

// showDifference prints the entries that came, went or changed, with a plus or a
// minus before each value. Passwords are not shown.
func showDifference(out io.Writer, before, after []directory.Entry) {
	old := map[string]directory.Entry{}
	for _, e := range before {
		old[e.DN.Normal()] = e
	}
	show := func(dn directory.DN, sign string, lines []string) {
		for i, l := range lines {
			if i == 0 {
				fmt.Fprintln(out, "dn:", dn)
			}
			fmt.Fprintln(out, sign+l)
		}
	}
	for _, e := range after {
		was, ok := old[e.DN.Normal()]
		delete(old, e.DN.Normal())
		if !ok {
			show(e.DN, "+ ", values(e))
			continue
		}
		gone, come := without(values(was), values(e)), without(values(e), values(was))
		show(e.DN, "- ", gone)
		if len(gone) > 0 {
			for _, l := range come {
				fmt.Fprintln(out, "+ "+l)
			}
		} else {
			show(e.DN, "+ ", come)
		}
	}
	for _, e := range before {
		if _, gone := old[e.DN.Normal()]; gone {
			show(e.DN, "- ", values(e))
		}
	}
}

func values(e directory.Entry) []string {
	var lines []string
	for _, a := range e.Attributes {
		for _, v := range a.Values {
			if strings.EqualFold(a.Name, "userPassword") {
				v = "(not shown)"
			}
			lines = append(lines, a.Name+": "+v)
		}
	}
	return lines
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// mailState is what mail sees of a directory.
type mailState struct {
	login, address map[string]bool
	host           map[string]string
}

func mailOf(ctx context.Context, cfg config.Config, tree directory.Editor) (mailState, error) {
	s := mailState{login: map[string]bool{}, address: map[string]bool{}, host: map[string]string{}}
	o, err := daemon.View(cfg)
	if err != nil {
		return s, err
	}
	recipients, err := directory.NewProvisioner(tree, o).Recipients(ctx, "")
	for _, r := range recipients {
		s.address[r.Address().String()] = true
		if u := r.User; u != nil {
			s.login[u.Account()] = u.Status.MayLogin()
			s.host[u.Account()] = u.MailHost
			for _, a := range append(slices.Clone(u.Alternates), u.Equivalents...) {
				s.address[a.String()] = true
			}
		}
	}
	return s, err
}

// effects says in sentences what the change from s to after does to mail.
func (s mailState) effects(after mailState) []string {
	var lost, gained, moved, stop, start []string
	for name, may := range s.login {
		if may && !after.login[name] {
			lost = append(lost, name)
		}
	}
	for name, may := range after.login {
		if may && !s.login[name] {
			gained = append(gained, name)
		}
		if host, ok := s.host[name]; ok && host != after.host[name] {
			moved = append(moved, name)
		}
	}
	for a := range s.address {
		if !after.address[a] {
			stop = append(stop, a)
		}
	}
	for a := range after.address {
		if !s.address[a] {
			start = append(start, a)
		}
	}
	var lines []string
	for _, x := range []struct {
		what string
		who  []string
	}{{"users lose access", lost}, {"users gain access", gained}, {"users move to another mail host", moved},
		{"addresses take mail no more", stop}, {"addresses take mail", start}} {
		if len(x.who) == 0 {
			continue
		}
		slices.Sort(x.who)
		shown, more := x.who, ""
		if len(shown) > 10 {
			shown, more = shown[:10], ", ..."
		}
		lines = append(lines, fmt.Sprintf("%d %s: %s%s", len(x.who), x.what, strings.Join(shown, ", "), more))
	}
	return lines
}
