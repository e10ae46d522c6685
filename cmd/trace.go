package cmd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

type traceOptions struct {
	config configFlag
	limit  int
	full   bool
	json   bool
}

func newTraceCommand() *cobra.Command {
	var o traceOptions
	c := &cobra.Command{
		Use:   "trace TRACE|MESSAGE-ID|ADDRESS|QUEUE-ID",
		Short: "Tell a message's way through the server: taken, judged, queued, delivered or refused, and why",
		Long: `Tell a message's way through the server, in plain sentences: from the door by
which it came, or was refused, to its mailboxes or the next host, in that host's
own words. An address finds what it sent or received, the newest first.

On the mta's host it asks the stores on other hosts too; on a store's host alone
it tells what the store did. Messages are remembered for as long as trace.keep
says (30 days).`,
		Example: `  mailsrv trace bob@example.com
  mailsrv trace '<20261130.1@example.com>'
  mailsrv trace 0h3v7qk2m9c4x8d5r1t6w2y7za`,
		Args: exactly("trace, Message-ID, address or queue id"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), args[0], c.OutOrStdout()) },
	}
	o.config.add(c)
	c.Flags().IntVar(&o.limit, "limit", 20, "how many messages at most")
	c.Flags().BoolVar(&o.full, "full", false, "tell all of each, where there are several")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func (o traceOptions) run(ctx context.Context, what string, out io.Writer) error {
	cfg, err := o.config.load()
	if err != nil {
		return err
	}
	role := config.RoleMTA
	if !cfg.Runs(role) {
		role = config.RoleStore
	}
	ask := func(what string) (a daemon.TraceAnswer, err error) {
		v := url.Values{"what": {what}, "limit": {strconv.Itoa(o.limit)}}
		return a, newControl(cfg, role).get(ctx, http.MethodGet, "/trace?"+v.Encode(), &a)
	}
	a, err := ask(what)
	if err != nil {
		return err
	}
	if len(a.Messages) > 1 && o.full { // each by itself, so that all stores tell of it
		for i, m := range a.Messages {
			one, err := ask(m.Trace)
			if err != nil {
				return err
			}
			if len(one.Messages) == 1 {
				a.Messages[i], a.Missing = one.Messages[0], one.Missing
			}
		}
	}
	switch {
	case o.json:
		return printJSON(out, a)
	case len(a.Messages) == 0:
		return fmt.Errorf("nothing is known of %q here; messages are remembered for %s (trace.keep)", what, keptText(time.Duration(cfg.Trace.Keep)))
	case len(a.Messages) == 1 || o.full:
		for i, m := range a.Messages {
			if i > 0 {
				fmt.Fprintln(out)
			}
			if err := printTrace(out, m); err != nil {
				return err
			}
		}
	default:
		if err := listTraces(out, a.Messages, o.limit); err != nil {
			return err
		}
	}
	for _, m := range a.Missing {
		fmt.Fprintf(out, "\nnot asked: store %s\n", m)
	}
	return nil
}

func keptText(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return count(int(d/(24*time.Hour)), "day")
	}
	return d.String()
}

// listTraces prints a line for each message.
func listTraces(out io.Writer, messages []daemon.Traced, limit int) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tTRACE\tFROM\tTO\tOUTCOME")
	for _, m := range messages {
		s := summed(m)
		fmt.Fprintf(t, "%s\t%s\t<%s>\t%s\t%s\n", m.Events[0].At.Local().Format(time.DateTime), m.Trace, s.from, clipped(s.to, 40), clipped(s.outcome, 70))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(messages) == limit {
		fmt.Fprintf(out, "\nThese are the newest %d; --limit shows more.", limit)
	}
	fmt.Fprintln(out, "\nOne of them in full: mailsrv trace TRACE; all of them: --full")
	return nil
}

// printTrace tells one message's way.
func printTrace(out io.Writer, m daemon.Traced) error {
	s := summed(m)
	fmt.Fprintf(out, "message %s from <%s> to %s", m.Trace, s.from, orNobody(s.to))
	if s.messageID != "" {
		fmt.Fprintf(out, ", Message-ID %s", s.messageID)
	}
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	date := ""
	for _, e := range m.Events {
		if d := e.At.Local().Format(time.DateOnly); d != date {
			date = d
			if err := t.Flush(); err != nil {
				return err
			}
			fmt.Fprintln(out, date)
		}
		role := e.About["role"]
		if on := e.About["on"]; on != "" {
			role += " " + on
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", e.At.Local().Format("15:04:05.000"), role, sentence(e))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "now: %s\n", s.outcome)
	return nil
}

func orNobody(to string) string {
	if to == "" {
		return "nobody yet"
	}
	return strings.ReplaceAll(to, " ", ", ")
}
