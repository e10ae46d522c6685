package cmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
)

// queueOptions is what the queue commands share.
type queueOptions struct {
	config configFlag
	json   bool
	filter daemon.QueueFilter
	all    bool
}

func newQueueCommand() *cobra.Command {
	var o queueOptions
	c := &cobra.Command{Use: "queue", Short: "Look at the mail that waits to be delivered, and deal with it"}
	o.config.add(c)
	c.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	list := &cobra.Command{Use: "list", Short: "List what waits, the oldest first", Args: exactly(), RunE: o.run(o.list)}
	o.filters(list)
	c.AddCommand(
		list,
		&cobra.Command{Use: "summary", Short: "Count what waits for each destination", Args: exactly(), RunE: o.run(o.summary)},
		o.topCommand(),
		&cobra.Command{Use: "show ID", Short: "Show one entry with all its recipients", Args: exactly("id"), RunE: o.run(o.show)},
		&cobra.Command{Use: "message ID", Short: "Print an entry's message as it lies in the queue", Args: exactly("id"), RunE: o.run(o.message)},
		o.verb("flush", "Try now instead of later: the entries named, those the filters pick, or --all", "will be tried now"),
		o.verb("hold", "Stop trying until released", "is on hold"),
		o.verb("release", "Undo hold, or let a message through that waits for a moderator", "is released"),
		o.verb("return", "Give up, and tell the sender", "is returned to its sender"),
		o.verb("delete", "Drop; nobody is told", "is deleted"),
	)
	return c
}

func (o *queueOptions) filters(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.filter.From, "from", "", "only from this sender")
	f.StringVar(&o.filter.To, "to", "", "only to this recipient")
	f.StringVar(&o.filter.Host, "host", "", "only to this domain")
	f.StringVar(&o.filter.Error, "error", "", "only where the last reply contains this text")
	f.DurationVar(&o.filter.Older, "older", 0, "only older than this, such as 2h")
}

// filtered reports whether any filter is set.
func (o *queueOptions) filtered() bool { return o.filter != daemon.QueueFilter{} }

// run finds the server and runs one command.
func (o *queueOptions) run(fn func(ctx context.Context, c *control, args []string, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		for _, id := range args {
			if _, err := strconv.ParseInt(id, 10, 64); err != nil {
				return usageError{fmt.Errorf("%q is no id; see: mailsrv queue list", id)}
			}
		}
		cfg, err := o.config.load()
		if err != nil {
			return err
		}
		return fn(c.Context(), newControl(cfg, config.RoleMTA), args, c.OutOrStdout())
	}
}

// pages yields all entries that the filters pick, a page at a time.
func (o *queueOptions) pages(ctx context.Context, c *control, fn func([]daemon.QueueEntry) error) error {
	for f := o.filter; ; {
		var page []daemon.QueueEntry
		if err := c.get(ctx, http.MethodGet, "/queue?"+f.Values().Encode(), &page); err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		if err := fn(page); err != nil {
			return err
		}
		f.After = page[len(page)-1].ID
	}
}

func (o *queueOptions) list(ctx context.Context, c *control, _ []string, out io.Writer) error {
	if o.json {
		all := []daemon.QueueEntry{}
		err := o.pages(ctx, c, func(page []daemon.QueueEntry) error {
			all = append(all, page...)
			return nil
		})
		if err != nil {
			return err
		}
		return printJSON(out, all)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	entries, recipients := 0, 0
	var size int64
	err := o.pages(ctx, c, func(page []daemon.QueueEntry) error {
		if entries == 0 {
			fmt.Fprintln(t, "ID\tAGE\tSIZE\tFROM\tTO\tSTATE\tNEXT\tLAST REPLY")
		}
		for _, e := range page {
			entries++
			size += e.Size
			recipients += listEntry(t, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if entries == 0 {
		what := "the queue is empty"
		if o.filtered() {
			what = "nothing in the queue matches"
		}
		fmt.Fprintln(out, what)
		return nil
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s, %s, %s\n", count(entries, "message"), count(recipients, "recipient"), bytesText(size))
	return nil
}

// listEntry prints a line for each recipient that waits; the entry's own columns
// stand on the first.
func listEntry(t io.Writer, e daemon.QueueEntry) int {
	n := 0
	for _, r := range e.Recipients {
		if r.State != "pending" && r.State != "held" {
			continue
		}
		own := fmt.Sprintf("%d\t%s\t%s\t<%s>", e.ID, ageText(time.Since(e.Arrived)), bytesText(e.Size), e.From)
		if n > 0 {
			own = "\t\t\t"
		}
		n++
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", own, r.Address, r.State, nextText(r.Next, r.State), clipped(cmp.Or(r.Status, "not tried yet"), 60))
	}
	return n
}

func (o *queueOptions) summary(ctx context.Context, c *control, _ []string, out io.Writer) error {
	list := []daemon.QueueSummary{}
	if err := c.get(ctx, http.MethodGet, "/queue/summary", &list); err != nil {
		return err
	}
	if o.json {
		return printJSON(out, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "the queue is empty")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DESTINATION\tPENDING\tHELD\tOLDEST\tNEXT\tLAST REPLY")
	for _, s := range list {
		state := "pending"
		if s.Pending == 0 {
			state = "held"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\n", s.Destination, s.Pending, s.Held, ageText(time.Since(s.Oldest)), nextText(s.Next, state), clipped(s.Status, 60))
	}
	return t.Flush()
}

func (o *queueOptions) show(ctx context.Context, c *control, args []string, out io.Writer) error {
	var e daemon.QueueEntry
	if err := c.get(ctx, http.MethodGet, "/queue/"+args[0], &e); err != nil {
		return err
	}
	if o.json {
		return printJSON(out, e)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "id\t%d\ntrace\t%s\nfrom\t<%s>\nsize\t%s\narrived\t%s (%s ago)\n", e.ID, e.Trace, e.From, bytesText(e.Size),
		e.Arrived.Local().Format(time.DateTime), ageText(time.Since(e.Arrived)))
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range e.Recipients {
		fmt.Fprintf(out, "\n%s: %s", r.Address, r.State)
		if r.Attempts > 0 {
			fmt.Fprintf(out, ", %s, the last %s ago", count(r.Attempts, "attempt"), ageText(time.Since(r.Tried)))
		}
		if r.State == "pending" {
			fmt.Fprintf(out, ", next %s", nextText(r.Next, r.State))
		}
		if r.Status != "" {
			fmt.Fprintf(out, "\n  %s", r.Status)
		}
	}
	fmt.Fprintln(out)
	return nil
}

func (o *queueOptions) message(ctx context.Context, c *control, args []string, out io.Writer) error {
	body, err := c.do(ctx, http.MethodGet, "/queue/"+args[0]+"/message")
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(out, body); err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	return nil
}

// verb is a command that changes entries: those named, or those that the
// filters pick.
func (o *queueOptions) verb(name, short, done string) *cobra.Command {
	c := &cobra.Command{Use: name + " [ID...]", Short: short}
	o.filters(c)
	c.Flags().BoolVar(&o.all, "all", false, "everything in the queue")
	c.RunE = o.run(func(ctx context.Context, k *control, ids []string, out io.Writer) error {
		switch {
		case len(ids) > 0 && (o.all || o.filtered()), o.all && o.filtered():
			return usageError{errors.New("name entries, or pick them by filters, or say --all: one of the three")}
		case len(ids) == 0 && !o.all && !o.filtered():
			return usageError{errors.New("which entries? Name their ids (see: mailsrv queue list), pick them by filters, or say --all")}
		case o.all && name == "flush":
			var answer daemon.QueueChange
			if err := k.get(ctx, http.MethodPost, "/queue/flush", &answer); err != nil {
				return err
			}
			fmt.Fprintln(out, answer.Done)
			return nil
		case len(ids) == 0:
			err := o.pages(ctx, k, func(page []daemon.QueueEntry) error {
				for _, e := range page {
					ids = append(ids, strconv.FormatInt(e.ID, 10))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, id := range ids {
			var answer daemon.QueueChange
			if err := k.get(ctx, http.MethodPost, "/queue/"+id+"/"+name, &answer); err != nil {
				return err
			}
		}
		if o.json {
			return printJSON(out, map[string]any{"command": name, "ids": ids})
		}
		switch len(ids) {
		case 0:
			fmt.Fprintln(out, "nothing in the queue matches")
		case 1:
			fmt.Fprintf(out, "entry %s %s\n", ids[0], done)
		default:
			fmt.Fprintf(out, "%d entries: each %s\n", len(ids), done)
		}
		return nil
	})
	return c
}
