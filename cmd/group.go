package cmd

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"mailsrv/pkg/directory"
)

func newGroupCommand() *cobra.Command {
	var a admin
	c := a.parent("group", "Make, show and change groups")
	c.AddCommand(
		&cobra.Command{Use: "add ADDRESS MEMBER...", Short: "Make a group of users, groups and external addresses", Args: between(2, -1),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
				if err := p.AddGroup(ctx, args[0], args[1:]); err != nil {
					return err
				}
				return a.told(out, args[0], "added", "group "+args[0]+" added", "")
			})},
		a.set("ADDRESS"), a.remove("ADDRESS", (*directory.Provisioner).DeleteGroup), a.list(true), a.show())
	return c
}
