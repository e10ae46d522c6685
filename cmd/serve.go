package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

type serveOptions struct {
	config configFlag
	roles  string
	demo   bool
	data   string
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the mail server: all roles, or those of --roles",
		Long: `Run the mail server until a signal stops it (Ctrl-C, SIGTERM): it then takes
no new connections, lets transactions end, and exits 0.

With --demo it needs no configuration: all roles run on loopback, on high ports,
with a domain example.test and the users alice and bob.`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error { return runServe(c.Context(), o, c.OutOrStdout()) },
	}
	o.config.add(c)
	c.Flags().StringVar(&o.roles, "roles", "", "roles to run, such as mta,mmp,store,directory (default: those of the file)")
	c.Flags().BoolVar(&o.demo, "demo", false, "run a demonstration on loopback")
	c.Flags().StringVar(&o.data, "data", "", "data folder (default: that of the file; with --demo, mailsrv-demo in the user's cache folder)")
	return c
}

func runServe(ctx context.Context, o serveOptions, out io.Writer) error {
	if o.demo {
		return runDemo(ctx, o.data, out)
	}
	cfg, err := o.load()
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	defer signal.Stop(signals)
	log, level := newLog(cfg.Log, os.Stderr)
	boundMemory(os.DirFS("/"), log)
	return daemon.Run(ctx, daemon.Options{Config: cfg, Log: log, Reload: daemon.Reload{Signals: signals, Load: o.load, Level: level},
		Ready: func(addresses map[string]string) { printAddresses(out, addresses) }})
}

// load reads the file, and puts the flags over it.
func (o serveOptions) load() (config.Config, error) {
	cfg, err := o.config.load()
	if err != nil {
		return cfg, err
	}
	if o.roles != "" {
		if cfg.Roles, err = config.ParseRoles(o.roles); err != nil {
			return cfg, usageError{err}
		}
		if err := cfg.Validate(); err != nil {
			return cfg, err
		}
	}
	if o.data != "" {
		cfg.Data = o.data
	}
	return cfg, nil
}

// newLog returns the log, and its level, which can be changed.
func newLog(c config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(c.Level)) // was validated
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}

func printAddresses(out io.Writer, addresses map[string]string) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DOOR\tADDRESS")
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		if strings.HasPrefix(name, "control-") {
			continue // for our own commands only
		}
		fmt.Fprintf(t, "%s\t%s\n", name, addresses[name])
	}
	_ = t.Flush()
}

// errNoCache is returned where the system names no cache folder.
var errNoCache = errors.New("this system names no cache folder; choose one with --data DIR")
