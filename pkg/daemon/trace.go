package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/journal"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/store/lmtpclient"
)

// Traced is one message as mailsrv trace tells of it.
type Traced struct {
	Trace  string          `json:"trace"`
	Events []journal.Event `json:"events"`
	// Queue holds what still waits of it.
	Queue []QueueEntry `json:"queue,omitempty"`
}

// TraceAnswer is the answer to GET /trace.
type TraceAnswer struct {
	// Messages are the newest first. If there is more than one, only what this
	// process knows is in them.
	Messages []Traced `json:"messages"`
	// Missing says which stores could not be asked, and why.
	Missing []string `json:"missing,omitempty"`
}

// openJournal opens what mailsrv trace tells of: the lines that the roles of
// this process log about messages.
func (d *daemon) openJournal(ctx context.Context) error {
	if d.cfg.Trace.Keep <= 0 || !d.cfg.Runs(config.RoleMTA) && !d.cfg.Runs(config.RoleStore) {
		return nil
	}
	j, err := journal.Open(ctx, journal.Options{Path: filepath.Join(d.cfg.Data, "trace.db"), Keep: time.Duration(d.cfg.Trace.Keep),
		MaxSize: int64(d.cfg.Trace.MaxSize), Log: d.log})
	if err != nil {
		return err
	}
	d.journal = j
	d.closers = append(d.closers, j.Close)
	return nil
}

// messageLog is the log of a role for what it does with messages: the journal
// keeps it too.
func (d *daemon) messageLog(role config.Role) *slog.Logger {
	log := d.log
	if d.journal != nil {
		log = slog.New(d.journal.Handler(log.Handler()))
	}
	return log.With("role", string(role))
}

// history is what a store tells an MTA on another host of ours; nil: nothing.
func (d *daemon) history() func(context.Context, mail.TraceID) ([]byte, error) {
	if d.journal == nil {
		return nil
	}
	return func(ctx context.Context, trace mail.TraceID) ([]byte, error) {
		events, err := d.journal.Events(ctx, trace)
		if err != nil {
			return nil, err
		}
		return json.Marshal(events)
	}
}

// traceCommand adds GET /trace to the commands of a role. stores are those on
// other hosts, by mail host; q may be nil.
func (d *daemon) traceCommand(mux *http.ServeMux, q *queue.Queue, stores map[string]*lmtpclient.Client) {
	mux.HandleFunc("GET /trace", command(func(r *http.Request) (any, error) {
		if d.journal == nil {
			return nil, fmt.Errorf("nothing is kept of messages: trace.keep is 0s in the configuration")
		}
		v := r.URL.Query()
		limit, err := strconv.Atoi(v.Get("limit"))
		if err != nil || limit < 1 {
			limit = 20
		}
		what := v.Get("what")
		traces, err := d.journal.Find(r.Context(), what, limit)
		if err != nil {
			return nil, err
		}
		if t, ok := mail.ParseTraceID(what); ok && len(traces) == 0 {
			traces = []mail.TraceID{t}
		}
		a := TraceAnswer{Messages: []Traced{}}
		for _, t := range traces {
			m := Traced{Trace: string(t)}
			if m.Events, err = d.journal.Events(r.Context(), t); err != nil {
				return nil, err
			}
			if len(traces) == 1 {
				var more []journal.Event
				more, a.Missing = histories(r.Context(), stores, t)
				m.Events = append(m.Events, more...)
				slices.SortStableFunc(m.Events, func(a, b journal.Event) int { return a.At.Compare(b.At) })
			}
			if q != nil {
				entries, err := q.List(r.Context(), queue.Filter{Trace: t})
				if err != nil {
					return nil, err
				}
				for _, e := range entries {
					m.Queue = append(m.Queue, publicEntry(e))
				}
			}
			if len(m.Events) > 0 {
				a.Messages = append(a.Messages, m)
			}
		}
		return a, nil
	}))
}

// histories asks all stores on other hosts, at the same time and not for long.
func histories(ctx context.Context, stores map[string]*lmtpclient.Client, t mail.TraceID) (events []journal.Event, missing []string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for host, c := range stores {
		wg.Go(func() {
			var list []journal.Event
			text, err := c.History(ctx, t)
			if err == nil && len(text) > 0 {
				err = json.Unmarshal(text, &list)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, host+": "+err.Error())
			}
			for _, e := range list {
				e.About = maps.Clone(e.About)
				e.About["on"] = host
				events = append(events, e)
			}
		})
	}
	wg.Wait()
	slices.Sort(missing)
	return events, missing
}
