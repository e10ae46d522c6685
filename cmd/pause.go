package cmd

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

func newStoresCommand(a *admin) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the stores that the MMP of this host reaches elsewhere", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.config.load()
			if err != nil {
				return err
			}
			var list []daemon.StoreState
			if err := newControl(cfg, config.RoleMMP).get(c.Context(), http.MethodGet, "/stores", &list); err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), list)
			}
			var rows [][]string
			for _, s := range list {
				state := "up"
				if s.Paused {
					state = "paused"
				} else if !s.Up {
					state = "down"
				}
				rows = append(rows, []string{s.Host, state, strconv.Itoa(s.Sessions)})
			}
			return a.table(c.OutOrStdout(), []string{"STORE", "STATE", "SESSIONS"}, rows)
		}}
}

func newPauseCommand(a *admin, verb, short string) *cobra.Command {
	c := &cobra.Command{Use: verb + " HOST", Short: short, Args: exactly("host"),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := a.config.load()
			if err != nil {
				return err
			}
			var s daemon.StoreState
			if err := newControl(cfg, config.RoleMMP).get(c.Context(), http.MethodPost, "/stores/"+url.PathEscape(args[0])+"/"+verb, &s); err != nil {
				return err
			}
			switch {
			case a.json:
				return printJSON(c.OutOrStdout(), s)
			case s.Paused:
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s gets no more sessions; %s told to end\n", s.Host, count(s.Sessions, "session"))
			default:
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s gets sessions again\n", s.Host)
			}
			return err
		}}
	c.Long = short + `.

It concerns the MMP of this host, by whose configuration the command goes, and
holds also after a restart. Users of the store hear that it cannot be reached
now, or are served by the store of mmp.failover_attributes.`
	return c
}
