package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/store"
)

// storeOptions is what the commands on the store share.
type storeOptions struct {
	config       configFlag
	json         bool
	q            store.Selection
	since, until string
}

// on runs a command on the store, in the process that serves it or, if none
// does, in this one.
func (o *storeOptions) on(ctx context.Context, name string, more url.Values) (a daemon.StoreAnswer, err error) {
	c, err := o.config.load()
	if err != nil {
		return a, err
	}
	for _, t := range []struct {
		text string
		at   *time.Time
	}{{o.since, &o.q.Since}, {o.until, &o.q.Until}} {
		if t.text == "" {
			continue
		}
		if *t.at, err = parseWhen(t.text, time.Now()); err != nil {
			return a, usageError{err}
		}
	}
	v := daemon.StoreSelection(o.q)
	for key := range more {
		v.Set(key, more.Get(key))
	}
	ctl := newControl(c, config.RoleStore)
	conn, err := net.DialTimeout("unix", ctl.path, 5*time.Second)
	if err != nil {
		return daemon.StoreCommand(ctx, c, name, v)
	}
	conn.Close()
	err = ctl.get(ctx, http.MethodPost, "/store/"+name+"?"+v.Encode(), &a)
	return a, err
}

// parseWhen reads a day, a time, or how long ago.
func parseWhen(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2026-11-24, 2026-11-24T10:00 or, for how long ago, 36h", s)
}

func (o *storeOptions) flags(c *cobra.Command, what string) {
	c.Flags().StringVar(&o.q.Account, "account", "", "only of this account, such as alice@example.org")
	c.Flags().StringVar(&o.q.Mailbox, "mailbox", "", "only of this mailbox")
	c.Flags().StringVar(&o.q.MessageID, "message-id", "", "only this Message-ID, with its angle brackets")
	c.Flags().StringVar(&o.since, "since", "", "only what "+what+" since: a day, a time, or how long ago (36h)")
	c.Flags().StringVar(&o.until, "until", "", "only what "+what+" until then")
}

func (o *storeOptions) command(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, args []string, out io.Writer) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error {
		return run(c.Context(), args, c.OutOrStdout())
	}}
	return c
}

// newInspectCommand is verify, or reconstruct.
func newInspectCommand(name, short string) *cobra.Command {
	var o storeOptions
	c := o.command(name, short, exactly(), func(ctx context.Context, _ []string, out io.Writer) error {
		a, err := o.on(ctx, name, nil)
		if err != nil {
			return err
		}
		if o.json {
			err = printJSON(out, a)
		} else {
			for _, f := range a.Faults {
				fmt.Fprintln(out, f)
			}
			fmt.Fprintln(out, tallyText(a.Tally))
		}
		if err == nil && a.Tally.Left > 0 {
			err = fmt.Errorf("%s; run: mailsrv reconstruct (it mends what can be made again), or mailsrv restore DIR", count(a.Tally.Left, "fault"))
			if name == "reconstruct" {
				err = fmt.Errorf("%s cannot be mended from what is here; run: mailsrv restore DIR", count(a.Tally.Left, "fault"))
			}
		}
		return err
	})
	o.config.add(c)
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func tallyText(t store.Tally) string {
	return fmt.Sprintf("%s, %s, %s, %s (%s, %s), %s", count(t.Accounts, "account"), plural(t.Mailboxes, "mailbox", "mailboxes"), count(t.Messages, "message"),
		plural(t.Bodies, "body", "bodies"), bytesText(t.Bytes), count(t.Files, "file"), count(t.Faults, "fault"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func newMailboxCommand() *cobra.Command {
	var o storeOptions
	c := &cobra.Command{Use: "mailbox", Short: "Find messages that were removed, bring them back, or free their room"}
	o.config.add(c)
	c.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	list := o.command("removed", "List removed messages that can still be had again, the oldest first", exactly(), o.listRemoved)
	o.flags(list, "was removed")
	undelete := o.command("undelete", "Bring removed messages back into their mailboxes, under new UIDs", exactly(), func(ctx context.Context, _ []string, out io.Writer) error {
		if o.q == (store.Selection{}) && o.since == "" && o.until == "" {
			return usageError{errors.New("choose what to bring back: --account, --mailbox, --message-id, --since, --until")}
		}
		return o.changed(ctx, out, "undelete", nil, "brought back")
	})
	o.flags(undelete, "was removed")
	purge := o.command("purge", "Free the room of messages removed before a time", exactly(), func(ctx context.Context, _ []string, out io.Writer) error {
		if o.until == "" {
			return usageError{errors.New("say --until when: a day, a time, or how long ago (36h)")}
		}
		return o.changed(ctx, out, "purge", nil, "purged")
	})
	purge.Flags().StringVar(&o.until, "until", "", "what was removed before: a day, a time, or how long ago (36h)")
	c.AddCommand(list, undelete, purge)
	return c
}

func (o *storeOptions) listRemoved(ctx context.Context, _ []string, out io.Writer) error {
	a, err := o.on(ctx, "removed", nil)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, a.Removed)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ACCOUNT\tMAILBOX\tUID\tREMOVED\tSIZE\tMESSAGE-ID")
	for _, m := range a.Removed {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", m.Account, m.Mailbox, m.UID, m.At.Local().Format("2006-01-02 15:04"), bytesText(m.Size), m.MessageID)
	}
	return t.Flush()
}

// changed runs a command that answers with a number of messages.
func (o *storeOptions) changed(ctx context.Context, out io.Writer, name string, more url.Values, done string) error {
	a, err := o.on(ctx, name, more)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, a)
	}
	if a.Tally.Mailboxes > 0 { // the whole store was made anew
		fmt.Fprintln(out, tallyText(a.Tally))
		return nil
	}
	fmt.Fprintf(out, "%s %s\n", count(a.Messages, "message"), done)
	return nil
}

func newBackupCommand() *cobra.Command {
	var o storeOptions
	c := o.command("backup DIR", "Bring a backup of the store up to date, while it serves", exactly("dir"), func(ctx context.Context, args []string, out io.Writer) error {
		dir, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		a, err := o.on(ctx, "backup", url.Values{"dir": {dir}})
		if err != nil {
			return err
		}
		if o.json {
			return printJSON(out, a)
		}
		fmt.Fprintln(out, tallyText(a.Tally))
		return nil
	})
	o.config.add(c)
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func newRestoreCommand() *cobra.Command {
	var o storeOptions
	c := o.command("restore DIR", "Bring back from a backup what is missing: all, an account, a mailbox, a message", exactly("dir"),
		func(ctx context.Context, args []string, out io.Writer) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return o.changed(ctx, out, "restore", url.Values{"dir": {dir}}, "restored")
		})
	c.Long = c.Short + `.

Where the data folder holds no store, it is made anew with every UID as it was.
Else messages that are missing are added, under new UIDs.`
	o.config.add(c)
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	o.flags(c, "came in")
	return c
}
