package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/ldif"
)

func newDirectoryCommand() *cobra.Command {
	var f configFlag
	c := &cobra.Command{Use: "directory", Short: "Copy the directory in and out as LDIF, and try a login"}
	f.add(c)
	export := &cobra.Command{Use: "export [BASE]", Short: "Write all entries, or those below BASE, as LDIF; without passwords", Args: between(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return withTree(c.Context(), &f, func(cfg config.Config, tree directory.Editor) error {
				return exportLDIF(c.Context(), tree, cmp.Or(strings.Join(args, ""), cfg.Directory.Suffix), c.OutOrStdout())
			})
		}}
	var dry bool
	load := &cobra.Command{Use: "import FILE", Short: "Apply the entries and changes of an LDIF file (-: standard input)", Args: exactly("file"),
		RunE: func(c *cobra.Command, args []string) error {
			in, err := openInput(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			return withTree(c.Context(), &f, func(cfg config.Config, tree directory.Editor) error {
				if dry {
					return rehearse(c.Context(), cfg, tree, in, c.OutOrStdout())
				}
				n, err := importLDIF(c.Context(), tree, cfg.Directory.Suffix, in)
				fmt.Fprintf(c.OutOrStdout(), "%d records applied\n", n)
				return err
			})
		}}
	load.Flags().BoolVar(&dry, "dry-run", false, "change nothing; show the difference and what it does to mail")
	var service string
	var stdin bool
	test := &cobra.Command{Use: "test LOGIN", Short: "Show every search of a login, what matched, and why it would fail", Args: exactly("login"),
		RunE: func(c *cobra.Command, args []string) error {
			return withTree(c.Context(), &f, func(cfg config.Config, tree directory.Editor) error {
				return testLogin(c.Context(), cfg, tree, args[0], directory.Service(service), stdin, c.OutOrStdout())
			})
		}}
	test.Flags().StringVar(&service, "service", "imap", "imap, pop or smtp, with an s for TLS from the first byte")
	test.Flags().BoolVar(&stdin, "password-stdin", false, "try the password on standard input, too")
	c.AddCommand(export, load, test)
	return c
}

func openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	in, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening LDIF: %w", err)
	}
	return in, nil
}

// withTree connects to the running directory.
func withTree(ctx context.Context, f *configFlag, fn func(config.Config, directory.Editor) error) error {
	cfg, err := f.load()
	if err != nil {
		return err
	}
	client, err := daemon.Dial(ctx, cfg)
	if err != nil {
		return fmt.Errorf("reaching the directory (does mailsrv serve run?): %w", err)
	}
	return errors.Join(fn(cfg, client), client.Close())
}

// entries are all below base, parents first.
func entries(ctx context.Context, tree directory.Tree, base string) ([]directory.Entry, error) {
	dn, err := directory.ParseDN(base)
	if err != nil {
		return nil, usageError{err}
	}
	var all []directory.Entry
	for e, err := range tree.Search(ctx, directory.Query{Base: dn, Scope: directory.ScopeSubtree, Attributes: []string{"*", directory.NumberAttribute}}) {
		if err != nil {
			return nil, fmt.Errorf("reading entries below %s: %w", base, err)
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b directory.Entry) int { return cmp.Compare(len(a.DN.RDNs), len(b.DN.RDNs)) })
	return all, nil
}

func exportLDIF(ctx context.Context, tree directory.Tree, base string, out io.Writer) error {
	all, err := entries(ctx, tree, base)
	if err != nil {
		return err
	}
	w := ldif.NewWriter(out)
	for _, e := range all {
		attributes := make([]ldif.Attribute, len(e.Attributes))
		for i, a := range e.Attributes {
			attributes[i] = ldif.Attribute(a)
		}
		if err := w.Entry(e.DN.String(), attributes); err != nil {
			return fmt.Errorf("writing LDIF: %w", err)
		}
	}
	return w.Flush()
}

// importLDIF applies records until the first that fails, and returns how many
// it applied. The suffix is in every export, and in every directory: it is
// passed over.
func importLDIF(ctx context.Context, tree directory.Editor, suffix string, in io.Reader) (n int, err error) {
	top, err := directory.ParseDN(suffix)
	if err != nil {
		return 0, usageError{err}
	}
	r := ldif.NewReader(in)
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err == nil {
			err = applyRecord(ctx, tree, rec)
		}
		if dn, dnErr := directory.ParseDN(rec.DN); errors.Is(err, directory.ErrExists) && dnErr == nil && dn.Equal(top) {
			err = nil
		}
		if err != nil {
			return n, fmt.Errorf("record at line %d (%s): %w", rec.Line, rec.DN, err)
		}
		n++
	}
}

func applyRecord(ctx context.Context, tree directory.Editor, rec ldif.Record) error {
	dn, err := directory.ParseDN(rec.DN)
	if err != nil {
		return err
	}
	switch rec.Type {
	case ldif.Delete:
		return tree.Delete(ctx, dn)
	case ldif.Modify:
		changes := make([]directory.Change, len(rec.Changes))
		for i, c := range rec.Changes {
			changes[i] = directory.Change{Kind: directory.ChangeKind(c.Kind), Attribute: directory.Attribute(c.Attribute)}
		}
		return tree.Modify(ctx, dn, changes)
	case ldif.ModDN:
		rdn, err := directory.ParseDN(rec.NewRDN)
		if err != nil || len(rdn.RDNs) != 1 {
			return errors.Join(fmt.Errorf("newrdn %q is not one RDN", rec.NewRDN), err)
		}
		var superior *directory.DN
		if rec.Superior != nil {
			above, err := directory.ParseDN(*rec.Superior)
			if err != nil {
				return err
			}
			superior = &above
		}
		return tree.Rename(ctx, dn, rdn.RDNs[0], rec.DeleteOld, superior)
	}
	e := directory.Entry{DN: dn}
	for _, a := range rec.Attributes {
		if !keptByServer(a.Name) {
			e.Attributes = append(e.Attributes, directory.Attribute(a))
		}
	}
	return tree.Add(ctx, e)
}

// keptByServer reports whether a directory that exports the attribute would not
// take it back: it makes it itself.
func keptByServer(name string) bool {
	return slices.ContainsFunc([]string{"entryUUID", "entryCSN", "contextCSN", "createTimestamp", "modifyTimestamp", "creatorsName", "modifiersName",
		"structuralObjectClass", "hasSubordinates", "numSubordinates", "entryDN", "subschemaSubentry", "memberOf", "pwdChangedTime", "authPassword"},
		func(n string) bool { return strings.EqualFold(n, name) })
}
