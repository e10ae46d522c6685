package cmd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

func newWhoCommand() *cobra.Command {
	var file configFlag
	var asJSON bool
	c := &cobra.Command{Use: "who [ACCOUNT]", Short: "List who is logged in through the MMP", Args: between(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := file.load()
			if err != nil {
				return err
			}
			return who(c.Context(), newControl(cfg, config.RoleMMP), strings.Join(args, ""), asJSON, c.OutOrStdout())
		}}
	file.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func who(ctx context.Context, c *control, account string, asJSON bool, out io.Writer) error {
	var all []daemon.Session
	if err := c.get(ctx, http.MethodGet, "/sessions", &all); err != nil {
		return err
	}
	list := []daemon.Session{}
	for _, s := range all {
		if account == "" || strings.EqualFold(s.Account, account) {
			list = append(list, s)
		}
	}
	if asJSON {
		return printJSON(out, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "nobody is logged in")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACCOUNT\tSERVICE\tTLS\tFROM\tMECHANISM\tSTORE\tSINCE\tTRACE")
	for _, s := range list {
		encrypted := "no"
		if s.TLS {
			encrypted = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Account, s.Service, encrypted, s.Client, s.Mechanism, s.Store, ageText(time.Since(s.Since)), s.Trace)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", count(len(list), "session"))
	return nil
}

func newKickCommand() *cobra.Command {
	var file configFlag
	c := &cobra.Command{Use: "kick ACCOUNT|TRACE", Short: "End an account's sessions, or one; logging in again is not forbidden", Args: exactly("account"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := file.load()
			if err != nil {
				return err
			}
			var kicked daemon.Kicked
			if err := newControl(cfg, config.RoleMMP).get(c.Context(), http.MethodDelete, "/sessions/"+url.PathEscape(args[0]), &kicked); err != nil {
				return err
			}
			if kicked.Sessions == 0 {
				return fmt.Errorf("%s has no session here; see: mailsrv who", args[0])
			}
			fmt.Fprintf(c.OutOrStdout(), "%s told to end\n", count(kicked.Sessions, "session"))
			return nil
		}}
	file.add(c)
	return c
}
