// Package cmd is the command line: one file a subcommand. It holds no mail
// logic.
//
// Exit codes: 0 success, 1 the command failed (one line on standard error says
// why), 2 the command line itself was wrong.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
)

// usageError marks errors of the command line itself.
type usageError struct{ error }

// Execute runs the command line and returns the exit code.
func Execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCommand().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "mailsrv:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

func newRootCommand() *cobra.Command {
	c := &cobra.Command{
		Use:           "mailsrv",
		Short:         "A complete mail server in one binary: MTA, multiplexor, store and directory",
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see: %s --help", err, c.CommandPath())}
	})
	c.AddCommand(newServeCommand(), newCheckCommand(), newConfigCommand(), newUserCommand(), newDomainCommand(), newGroupCommand(), newAliasCommand(), newDirectoryCommand(), newQueueCommand(), newTraceCommand(), newMailboxCommand(), newStoreCommand(),
		newInspectCommand("verify", "Hold every body of the store against its hash, and every index and counter against what it counts"),
		newInspectCommand("reconstruct", "Mend what of the store can be made again, and name what cannot"), newBackupCommand(), newRestoreCommand(),
		newDKIMCommand(), newExplainCommand(), newWhoCommand(), newKickCommand(), newBansCommand())
	parents(c)
	return c
}

// parents makes the commands that only hold others refuse a word that is none
// of them; cobra prints the help then, and exits 0.
func parents(c *cobra.Command) {
	for _, sub := range c.Commands() {
		parents(sub)
	}
	if !c.HasSubCommands() || c.Runnable() {
		return
	}
	c.Args, c.DisableFlagsInUseLine = cobra.ArbitraryArgs, true
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return usageError{fmt.Errorf("%s has no command %q; see: %s --help", c.CommandPath(), args[0], c.CommandPath())}
	}
}

// configFlag is the --config flag that most commands have.
type configFlag struct{ path string }

func (f *configFlag) add(c *cobra.Command) {
	c.PersistentFlags().StringVar(&f.path, "config", "/etc/mailsrv/config.yaml", "configuration file")
}

func (f *configFlag) load() (config.Config, error) { return config.Load(f.path) }

// exactly is cobra.ExactArgs with our exit code and a sentence.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError{fmt.Errorf("%s wants %d argument(s), got %d; see: %s --help", c.CommandPath(), len(names), len(args), c.CommandPath())}
		}
		return nil
	}
}

// between is exactly for a number of arguments; most < 0: any number.
func between(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError{fmt.Errorf("%s wants at least %d argument(s), got %d; see: %s --help", c.CommandPath(), least, len(args), c.CommandPath())}
		case most >= 0 && len(args) > most:
			return usageError{fmt.Errorf("%s wants at most %d argument(s), got %d; see: %s --help", c.CommandPath(), most, len(args), c.CommandPath())}
		}
		return nil
	}
}
