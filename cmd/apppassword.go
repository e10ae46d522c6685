package cmd

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/directory"
)

func newAppPasswordCommand(a *admin) *cobra.Command {
	c := &cobra.Command{Use: "app-password", Short: "Make, list and revoke passwords of a user's programs"}
	var services []string
	add := &cobra.Command{Use: "add LOGIN@DOMAIN NAME", Short: "Make a password for one program, and print it", Args: exactly("login", "name"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			made, err := p.AddAppPassword(ctx, args[0], args[1], services)
			if err != nil {
				return err
			}
			return a.told(out, args[0], "added", "password "+args[1]+" of "+args[0]+" added", made)
		})}
	add.Flags().StringSliceVar(&services, "service", nil, "good for imap, pop, smtp or sieve alone (default: all)")
	list := &cobra.Command{Use: "list LOGIN@DOMAIN", Short: "List them, with their last use", Args: exactly("login"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			passwords, err := p.AppPasswords(ctx, args[0])
			var rows [][]string
			for _, x := range passwords {
				rows = append(rows, []string{x.Name, strings.Join(x.Services, ","), when(x.Made), when(x.LastUse)})
			}
			return errors.Join(err, a.table(out, []string{"NAME", "SERVICES", "MADE", "USED"}, rows))
		})}
	remove := &cobra.Command{Use: "delete LOGIN@DOMAIN NAME", Short: "Revoke one of them", Args: exactly("login", "name"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := p.DeleteAppPassword(ctx, args[0], args[1]); err != nil {
				return err
			}
			return a.told(out, args[0], "revoked", "password "+args[1]+" of "+args[0]+" revoked", "")
		})}
	c.AddCommand(add, list, remove)
	return c
}

// when is a time in short; "never" if it is zero.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}
