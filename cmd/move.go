package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/move"
)

// moveOptions is what the commands that move mailboxes share.
type moveOptions struct {
	keep            time.Duration
	dryRun, replace bool
}

func (o *moveOptions) flags(c *cobra.Command) {
	c.Flags().DurationVar(&o.keep, "keep", 14*24*time.Hour, "how long the old store keeps its copy, which nobody can change; 0: not at all")
	c.Flags().BoolVar(&o.replace, "replace", false, "drop mail that the new store holds of the user already, such as from an old backup")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
}

// mover moves by a configuration.
func (o *moveOptions) mover(c config.Config, p *directory.Provisioner) *move.Mover {
	return &move.Mover{Journal: p, Keep: o.keep, Replace: o.replace,
		Stores: func(host string) (store.Carrier, error) { return daemon.Carrier(c, host) },
		Same:   func(a, b string) bool { return daemon.SameStore(c, a, b) }}
}

// released has the MTA of this host, if it runs one, try held mail at once.
func released(ctx context.Context, c config.Config) error {
	if !c.Runs(config.RoleMTA) {
		return nil
	}
	var done daemon.QueueChange
	if err := newControl(c, config.RoleMTA).get(ctx, http.MethodPost, "/queue/flush", &done); err != nil {
		return fmt.Errorf("all is moved, but held mail goes on only when its time comes: %w", err)
	}
	return nil
}

func newMoveCommand(a *admin) *cobra.Command {
	var o moveOptions
	var to string
	var undo bool
	c := &cobra.Command{Use: "move LOGIN@DOMAIN --to HOST", Short: "Move a user's mailbox to another store, with UIDs, flags and all", Args: exactly("login")}
	c.Long = c.Short + `.

New mail is held and sessions end, the mail is copied and compared, the mail
host is changed, and held mail goes on. Whatever dies meanwhile, nothing is
lost: the same command goes on where it was; --undo takes an unfinished move
back, and moves the mailbox back after one that is over.

It speaks with the directory as all commands on users do, and with the stores:
the one of this host over its socket, others by mmp.stores of the
configuration.`
	c.RunE = func(c *cobra.Command, args []string) error {
		if undo == (to != "") {
			return usageError{errors.New("say where: --to HOST, or --undo")}
		}
		cfg, err := a.config.load()
		if err != nil {
			return err
		}
		return a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			m := o.mover(cfg, p)
			m.Release = func(ctx context.Context) error { return released(ctx, cfg) }
			bar := newBar(out)
			m.Progress = bar.step
			var r move.Report
			var err error
			switch {
			case o.dryRun && undo:
				return usageError{errors.New("--dry-run goes with --to")}
			case o.dryRun:
				r, err = m.Plan(ctx, args[0], to)
			case undo:
				r, err = m.Undo(ctx, args[0])
			default:
				r, err = m.Move(ctx, args[0], to)
			}
			bar.clear()
			if err != nil {
				return moveAdvice(args[0], r, err)
			}
			if a.json {
				return printJSON(out, r)
			}
			fmt.Fprintln(out, o.told(r))
			return nil
		})(c, args)
	}
	o.flags(c)
	c.Flags().StringVar(&to, "to", "", "mail host of the store to move to")
	c.Flags().BoolVar(&undo, "undo", false, "have it as it was before the move")
	return c
}

// told is a move in one sentence.
func (o *moveOptions) told(r move.Report) string {
	what := fmt.Sprintf("%s in %s (%s)", count(int(r.Messages), "message"), plural(r.Mailboxes, "mailbox", "mailboxes"), bytesText(r.Bytes))
	switch {
	case o.dryRun && r.Resumed != "":
		return fmt.Sprintf("%s: the move from %s to %s would go on from step %q", r.Login, r.From, r.To, r.Resumed)
	case o.dryRun:
		return fmt.Sprintf("%s would move from %s to %s: %s", r.Login, r.From, r.To, what)
	case r.Undone:
		return fmt.Sprintf("%s is at %s again", r.Login, r.To)
	case r.Resumed == string(directory.MoveFlipped):
		return fmt.Sprintf("%s is at %s", r.Login, r.To)
	case o.keep <= 0 || r.Messages == 0:
		return fmt.Sprintf("%s moved from %s to %s: %s", r.Login, r.From, r.To, what)
	}
	return fmt.Sprintf("%s moved from %s to %s: %s; %s keeps a copy until %s", r.Login, r.From, r.To, what, r.From,
		time.Now().Add(o.keep).Format("2006-01-02"))
}

// moveAdvice says what to do next.
func moveAdvice(login string, r move.Report, err error) error {
	switch {
	case errors.Is(err, store.ErrAccountInUse):
		return fmt.Errorf("%w; where that may go, use --replace", err)
	case errors.Is(err, move.ErrThere), errors.Is(err, move.ErrOtherMove), errors.Is(err, move.ErrNothingToUndo), errors.Is(err, directory.ErrNotFound),
		r.To == "":
		return err
	}
	return fmt.Errorf("%w; the user may be on hold now: run the command again, or: mailsrv user move %s --undo", err, login)
}

func newMovesCommand(a *admin) *cobra.Command {
	return &cobra.Command{Use: "moves", Short: "List moves that are not finished", Args: exactly(),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, _ []string, out io.Writer) error {
			recipients, err := p.Recipients(ctx, "")
			var rows [][]string
			for _, r := range recipients {
				if r.User == nil {
					continue
				}
				m, moveErr := r.User.Move()
				err = errors.Join(err, moveErr)
				if m.Unfinished() {
					rows = append(rows, []string{r.User.Account(), string(m.Step), m.From, m.To, m.Started.Local().Format("2006-01-02 15:04")})
				}
			}
			return errors.Join(err, a.table(out, []string{"USER", "STEP", "FROM", "TO", "SINCE"}, rows))
		})}
}

func newStoreCommand() *cobra.Command {
	var a admin
	c := a.parent("store", "Look after whole stores")
	var o moveOptions
	var to []string
	drain := &cobra.Command{Use: "drain HOST --to HOST[,HOST...]", Short: "Move everybody off a store", Args: exactly("host")}
	drain.Long = drain.Short + `.

Users are moved one after the other, as by mailsrv user move, and spread evenly
over the stores of --to. Who cannot be moved is named at the end, and stays; the
same command goes on with the rest.`
	drain.RunE = func(c *cobra.Command, args []string) error {
		if len(to) == 0 {
			return usageError{errors.New("say where: --to HOST")}
		}
		cfg, err := a.config.load()
		if err != nil {
			return err
		}
		return a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			d := drainer{o: o, m: o.mover(cfg, p), p: p, from: args[0], to: to, out: out, json: a.json}
			err := d.drain(ctx)
			if d.moved > 0 {
				err = errors.Join(err, released(ctx, cfg))
			}
			return err
		})(c, args)
	}
	o.flags(drain)
	drain.Flags().StringSliceVar(&to, "to", nil, "mail hosts of the stores to move to")
	c.AddCommand(drain, newStoresCommand(&a), newPauseCommand(&a, "pause", "Give a store no more sessions, and end those that stand, for its maintenance"),
		newPauseCommand(&a, "resume", "Let a paused store have sessions again"))
	return c
}

// drainer moves everybody off a store.
type drainer struct {
	o     moveOptions
	m     *move.Mover
	p     *directory.Provisioner
	from  string
	to    []string
	out   io.Writer
	json  bool
	moved int
}

// mustGo is a user with the store to go to.
type mustGo struct {
	login, to string
}

// users are those of the store, and those on their way from it.
func (d *drainer) users(ctx context.Context) ([]mustGo, error) {
	if slices.ContainsFunc(d.to, func(h string) bool { return d.m.Same(h, d.from) }) {
		return nil, usageError{fmt.Errorf("%s cannot be drained to itself", d.from)}
	}
	recipients, err := d.p.Recipients(ctx, "")
	if err != nil {
		return nil, err
	}
	var list []mustGo
	for _, r := range recipients {
		if r.User == nil {
			continue
		}
		j, err := r.User.Move()
		if err != nil {
			return nil, err
		}
		switch {
		case j.Unfinished() && d.m.Same(j.From, d.from):
			list = append(list, mustGo{r.User.Account(), j.To})
		case !j.Unfinished() && d.m.Same(r.User.MailHost, d.from):
			list = append(list, mustGo{r.User.Account(), d.to[len(list)%len(d.to)]})
		}
	}
	return list, nil
}

func (d *drainer) drain(ctx context.Context) error {
	users, err := d.users(ctx)
	if err != nil {
		return err
	}
	bar := newBar(d.out)
	reports := []move.Report{}
	var failed []string
	for i, u := range users {
		d.m.Progress = func(step string, done, total int64) {
			bar.all(i, len(users), u.login, step, done, total)
		}
		act := d.m.Move
		if d.o.dryRun {
			act = d.m.Plan
		}
		r, err := act(ctx, u.login, u.to)
		bar.clear()
		if ctx.Err() != nil {
			return fmt.Errorf("stopped at %s: %w; the same command goes on", u.login, err)
		}
		if err != nil {
			failed = append(failed, u.login)
			fmt.Fprintf(os.Stderr, "mailsrv: %s stays: %v\n", u.login, err)
			continue
		}
		reports = append(reports, r)
		if !d.json {
			fmt.Fprintln(d.out, d.o.told(r))
		}
	}
	if !d.o.dryRun {
		d.moved = len(reports)
	}
	if d.json {
		err = printJSON(d.out, reports)
	} else if !d.o.dryRun {
		fmt.Fprintf(d.out, "%s moved off %s\n", count(len(reports), "user"), d.from)
	}
	if len(failed) > 0 {
		err = errors.Join(err, fmt.Errorf("%s could not be moved: %s; once the cause is mended, run the command again", count(len(failed), "user"), strings.Join(failed, ", ")))
	}
	return err
}
