package cmd

import (
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

func newAliasCommand() *cobra.Command {
	var a admin
	c := a.parent("alias", "Give users, groups and domains further names")
	c.AddCommand(
		&cobra.Command{Use: "add ALIAS TARGET", Short: "Let ALIAS, an address or a domain, lead to TARGET", Args: exactly("alias", "target"),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
				if err := p.AddAlias(ctx, args[0], args[1]); err != nil {
					return err
				}
				return a.told(out, args[0], "added", args[0]+" now leads to "+args[1], "")
			})},
		&cobra.Command{Use: "set ALIAS TARGET", Short: "Let an alias that is there lead to another TARGET", Args: exactly("alias", "target"),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
				if err := p.SetAlias(ctx, args[0], args[1]); err != nil {
					return err
				}
				return a.told(out, args[0], "changed", args[0]+" now leads to "+args[1], "")
			})},
		&cobra.Command{Use: "show ALIAS", Short: "Say where an alias leads", Args: exactly("alias"),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
				x, err := p.Alias(ctx, args[0])
				if err != nil {
					return err
				}
				return a.fields(out, []field{one("alias", x.Name), one("target", x.Target)})
			})},
		a.remove("ALIAS", (*directory.Provisioner).DeleteAlias),
		&cobra.Command{Use: "list", Short: "List all aliases", Args: exactly(),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, _ []string, out io.Writer) error {
				domains, err := p.Domains(ctx)
				if err != nil {
					return err
				}
				recipients, err := p.Recipients(ctx, "")
				if err != nil {
					return err
				}
				return a.table(out, []string{"ALIAS", "TARGET"}, aliasRows(domains, recipients))
			})})
	return c
}

// aliasRows are the further names of domains, users and groups, and the groups
// of one member, which is what alias add makes for a target elsewhere.
func aliasRows(domains []directory.Domain, recipients []directory.Recipient) [][]string {
	var rows [][]string
	for _, d := range domains {
		for _, alias := range d.Aliases {
			rows = append(rows, []string{alias, d.Name})
		}
	}
	addresses := map[string]string{} // of users and groups, by DN
	for _, r := range recipients {
		addresses[r.DN().String()] = r.Address().String()
	}
	for _, r := range recipients {
		var names []mail.Address
		if u := r.User; u != nil {
			names = slices.Concat(u.Alternates, u.Equivalents)
		} else if g := r.Group; g != nil {
			names = slices.Concat(g.Alternates, g.Equivalents)
			switch {
			case len(g.Members)+len(g.External) != 1:
			case len(g.External) == 1:
				rows = append(rows, []string{g.Mail.String(), g.External[0].String()})
			default:
				dn := g.Members[0].String()
				rows = append(rows, []string{g.Mail.String(), cmp.Or(addresses[dn], dn)})
			}
		}
		for _, alias := range names {
			rows = append(rows, []string{alias.String(), r.Address().String()})
		}
	}
	return rows
}
