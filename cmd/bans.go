package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

// bansOptions is what the bans commands share.
type bansOptions struct {
	config configFlag
	json   bool
}

func newBansCommand() *cobra.Command {
	var o bansOptions
	c := &cobra.Command{Use: "bans", Short: "Look at addresses that failed to log in too often, and let them in again"}
	o.config.add(c)
	c.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the addresses whose logins are refused now", Args: exactly(), RunE: o.run(o.list)},
		&cobra.Command{Use: "why ADDRESS", Short: "Say what is held against an address", Args: exactly("address"), RunE: o.run(o.why)},
		&cobra.Command{Use: "lift ADDRESS", Short: "Forget the failures from an address", Args: exactly("address"), RunE: o.run(o.lift)},
	)
	return c
}

// roleBan is what one role knows.
type roleBan struct {
	Role config.Role `json:"role"`
	daemon.Ban
}

// run finds the roles that take logins of people: each has its own memory.
func (o *bansOptions) run(fn func(ctx context.Context, roles []*control, address string, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		address := ""
		if len(args) > 0 {
			a, err := netip.ParseAddr(args[0])
			if err != nil {
				return usageError{fmt.Errorf("%q is no IP address", args[0])}
			}
			address = url.PathEscape(a.String())
		}
		cfg, err := o.config.load()
		if err != nil {
			return err
		}
		var roles []*control
		for _, role := range []config.Role{config.RoleMMP, config.RoleMTA} {
			if cfg.Runs(role) {
				roles = append(roles, newControl(cfg, role))
			}
		}
		if len(roles) == 0 {
			return errors.New("neither the mmp nor the mta role runs by this file; give --config of one that does")
		}
		return fn(c.Context(), roles, address, c.OutOrStdout())
	}
}

func (o *bansOptions) list(ctx context.Context, roles []*control, _ string, out io.Writer) error {
	list := []roleBan{}
	for _, c := range roles {
		var bans []daemon.Ban
		if err := c.get(ctx, http.MethodGet, "/bans", &bans); err != nil {
			return err
		}
		for _, b := range bans {
			list = append(list, roleBan{c.role, b})
		}
	}
	if o.json {
		return printJSON(out, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "nobody is banned")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROLE\tNETWORK\tFAILURES IN A DAY\tLAST\tFOR ANOTHER")
	for _, b := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s ago\t%s\n", b.Role, b.Network, b.Day, ageText(time.Since(b.Last)), ageText(time.Until(b.Until)))
	}
	return t.Flush()
}

func (o *bansOptions) why(ctx context.Context, roles []*control, address string, out io.Writer) error {
	list := []roleBan{}
	for _, c := range roles {
		b := roleBan{Role: c.role}
		if err := c.get(ctx, http.MethodGet, "/bans/"+address, &b.Ban); err != nil {
			return err
		}
		list = append(list, b)
	}
	if o.json {
		return printJSON(out, list)
	}
	for _, b := range list {
		fmt.Fprintf(out, "%s: %s: %s\n", b.Role, b.Network, whyText(b.Ban))
	}
	return nil
}

// whyText says in a sentence what a role holds against a network.
func whyText(b daemon.Ban) string {
	text := fmt.Sprintf("%s in the last minute, %d in the last day", count(b.Minute, "failed login"), b.Day)
	switch {
	case b.Exempt:
		return "not banned: loopback and proxies never are"
	case !b.Until.IsZero():
		text += fmt.Sprintf("; banned for another %s", ageText(time.Until(b.Until)))
	default:
		text += "; not banned"
	}
	if b.Welcome {
		text += "; somebody logged in from there in the last day, so that it is never for more than a minute"
	}
	return text
}

func (o *bansOptions) lift(ctx context.Context, roles []*control, address string, out io.Writer) error {
	known := false
	for _, c := range roles {
		var lifted daemon.Lifted
		if err := c.get(ctx, http.MethodDelete, "/bans/"+address, &lifted); err != nil {
			return err
		}
		known = known || lifted.Known
	}
	if !known {
		return errors.New("nothing is held against this address")
	}
	fmt.Fprintln(out, "its failures are forgotten")
	return nil
}
