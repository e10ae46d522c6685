package cmd

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfigCommand() *cobra.Command {
	var f configFlag
	c := &cobra.Command{Use: "config", Short: "Look at the configuration file"}
	f.add(c)
	c.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Check the configuration file and report every fault with its line",
		Args:  exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: ok, roles %v\n", f.path, cfg.Roles)
			return nil
		},
	})
	return c
}
