package cmd

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

func newDomainCommand() *cobra.Command {
	var a admin
	c := a.parent("domain", "Make, show and change domains")
	var mailHost string
	add := &cobra.Command{Use: "add DOMAIN", Short: "Make a domain", Args: exactly("domain"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := p.AddDomain(ctx, args[0], mailHost); err != nil {
				return err
			}
			return a.told(out, args[0], "added", "domain "+args[0]+" added\n"+
				"Let somebody read its postmaster's mail (RFC 5321 section 4.5.1): mailsrv alias add postmaster@"+args[0]+" USER@"+args[0], "")
		})}
	add.Flags().StringVar(&mailHost, "mailhost", "", "host of the store of new users")
	list := &cobra.Command{Use: "list", Short: "List the domains", Args: exactly(),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, _ []string, out io.Writer) error {
			domains, err := p.Domains(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, d := range domains {
				rows = append(rows, []string{d.Name, string(d.Status), d.MailHost, strings.Join(d.Aliases, ",")})
			}
			return a.table(out, []string{"DOMAIN", "STATUS", "MAILHOST", "ALIASES"}, rows)
		})}
	show := &cobra.Command{Use: "show DOMAIN", Short: "Show a domain", Args: exactly("domain"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			d, err := p.Domain(ctx, args[0])
			if err != nil {
				return err
			}
			catchAll := ""
			if d.CatchAll != (mail.Address{}) {
				catchAll = d.CatchAll.String()
			}
			return a.fields(out, []field{one("dn", d.DN.String()), one("domain", d.Name), {"aliases", d.Aliases, true}, one("status", string(d.Status)),
				one("mailhost", d.MailHost), one("catchall", catchAll), one("smarthost", d.SmartHost),
				{"routinghosts", d.RoutingHosts, true}, one("access", d.ServiceAccess)})
		})}
	c.AddCommand(add, show, a.set("DOMAIN"), a.remove("DOMAIN", (*directory.Provisioner).DeleteDomain), list)
	return c
}
