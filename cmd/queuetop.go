package cmd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/daemon"
)

// topOptions are those of queue top.
type topOptions struct {
	queue    *queueOptions
	interval time.Duration
	frames   int
	rows     int
}

func (o *queueOptions) topCommand() *cobra.Command {
	t := topOptions{queue: o}
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch the queue: what waits where, what is being tried, and how fast it goes",
		Long: `Watch the queue until Ctrl-C: a table of destinations, those with the most
attempts in hand and the most that waits first. Where the output is no terminal
one table is printed, unless --frames says otherwise.`,
		Args: exactly(),
		RunE: o.run(t.run),
	}
	c.Flags().DurationVar(&t.interval, "interval", 2*time.Second, "time between two looks")
	c.Flags().IntVar(&t.frames, "frames", 0, "end after so many looks; 0: at Ctrl-C")
	c.Flags().IntVar(&t.rows, "rows", 20, "how many destinations")
	return c
}

func (t *topOptions) run(ctx context.Context, c *control, _ []string, out io.Writer) error {
	terminal := isTerminal(out)
	frames := t.frames
	if frames == 0 && !terminal {
		frames = 1
	}
	var last daemon.QueueTop
	for n := 1; ; n++ {
		var top daemon.QueueTop
		if err := c.get(ctx, http.MethodGet, "/queue/top", &top); err != nil {
			return err
		}
		var frame bytes.Buffer
		var err error
		switch {
		case t.queue.json:
			err = printJSON(&frame, top)
		default:
			if terminal {
				frame.WriteString("\x1b[H\x1b[2J") // home, clear
			}
			err = t.frame(&frame, top, last)
		}
		if err == nil {
			_, err = out.Write(frame.Bytes())
		}
		if err != nil || n == frames {
			return err
		}
		last = top
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(t.interval):
		}
	}
}

// frame prints one look.
func (t *topOptions) frame(out io.Writer, top, last daemon.QueueTop) error {
	fmt.Fprintf(out, "%s  %d waiting, %d held, %d in hand; since the start %d delivered, %d put off, %d failed\n",
		top.At.Local().Format(time.TimeOnly), top.Pending, top.Held, top.Active, top.Delivered, top.Deferred, top.Failed)
	if span := top.At.Sub(last.At).Seconds(); !last.At.IsZero() && span > 0 {
		rate := func(now, before int64) float64 { return float64(max(0, now-before)) / span }
		fmt.Fprintf(out, "a second: %.1f delivered, %.1f put off, %.1f failed\n",
			rate(top.Delivered, last.Delivered), rate(top.Deferred, last.Deferred), rate(top.Failed, last.Failed))
	}
	fmt.Fprintln(out)
	if len(top.Destinations) == 0 {
		_, err := fmt.Fprintln(out, "the queue is empty")
		return err
	}
	slices.SortStableFunc(top.Destinations, func(a, b daemon.QueueSummary) int {
		return cmp.Or(cmp.Compare(b.Active, a.Active), cmp.Compare(b.Pending, a.Pending))
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tIN HAND\tWAITING\tHELD\tOLDEST\tNEXT\tLAST REPLY")
	for _, s := range top.Destinations[:min(len(top.Destinations), t.rows)] {
		state := "pending"
		if s.Pending == 0 {
			state = "held"
		}
		next := nextText(s.Next, state)
		if s.Paused.After(s.Next) {
			next = "pause, " + nextText(s.Paused, state)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\n", s.Destination, s.Active, s.Pending, s.Held, ageText(time.Since(s.Oldest)), next, clipped(s.Status, 60))
	}
	return w.Flush()
}

// isTerminal reports whether a person watches.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
