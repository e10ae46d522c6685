package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/queue"
)

// QueueEntry is a queued message as the queue commands see it.
type QueueEntry struct {
	ID         int64            `json:"id"`
	Trace      string           `json:"trace"`
	From       string           `json:"from"` // empty: the null reverse-path
	Size       int64            `json:"size"` // bytes
	Arrived    time.Time        `json:"arrived"`
	Recipients []QueueRecipient `json:"recipients"`
}

// QueueRecipient is a recipient of a QueueEntry.
type QueueRecipient struct {
	Address  string    `json:"address"`
	State    string    `json:"state"`
	Attempts int       `json:"attempts"`
	Tried    time.Time `json:"tried,omitzero"`
	Next     time.Time `json:"next,omitzero"`
	Status   string    `json:"status,omitempty"`
}

// QueueSummary is what waits for one destination.
type QueueSummary struct {
	Destination string    `json:"destination"`
	Pending     int64     `json:"pending"`
	Held        int64     `json:"held"`
	Oldest      time.Time `json:"oldest"`
	Next        time.Time `json:"next,omitzero"`
	Status      string    `json:"status,omitempty"`
	// Active counts the attempts that run now; Paused is until when the
	// destination is left alone for its trouble.
	Active int       `json:"active"`
	Paused time.Time `json:"paused,omitzero"`
}

// QueueTop is what the queue does now.
type QueueTop struct {
	At      time.Time `json:"at"`
	Pending int64     `json:"pending"`
	Held    int64     `json:"held"`
	// Active counts the attempts that run now, the others recipients since the
	// start of the server.
	Active    int   `json:"active"`
	Delivered int64 `json:"delivered"`
	Deferred  int64 `json:"deferred"`
	Failed    int64 `json:"failed"`
	// Destinations are those with the most that waits.
	Destinations []QueueSummary `json:"destinations"`
}

// QueueFilter picks entries, as the parameters of GET /queue.
type QueueFilter struct {
	From, To, Host, Error string
	Older                 time.Duration
	// After is the last id of the page before.
	After int64
}

// Values renders the filter for the control socket.
func (f QueueFilter) Values() url.Values {
	v := url.Values{}
	for key, value := range map[string]string{"from": f.From, "to": f.To, "host": f.Host, "error": f.Error} {
		if value != "" {
			v.Set(key, value)
		}
	}
	if f.Older > 0 {
		v.Set("older", f.Older.String())
	}
	if f.After > 0 {
		v.Set("after", strconv.FormatInt(f.After, 10))
	}
	return v
}

// QueueChange is the answer to a command that changes the queue.
type QueueChange struct {
	Done string `json:"done"`
}

// queueCommands are the commands of the mta role's control socket.
func (d *daemon) queueCommands(q *queue.Queue) *http.ServeMux {
	mux, log := http.NewServeMux(), d.messageLog(config.RoleMTA)
	mux.HandleFunc("GET /queue", command(func(r *http.Request) (any, error) {
		f, err := readFilter(r.URL.Query())
		if err != nil {
			return nil, err
		}
		entries, err := q.List(r.Context(), f)
		list := make([]QueueEntry, len(entries))
		for i, e := range entries {
			list[i] = publicEntry(e)
		}
		return list, err
	}))
	mux.HandleFunc("GET /queue/summary", command(func(r *http.Request) (any, error) { return summaries(r.Context(), q) }))
	mux.HandleFunc("GET /queue/top", command(func(r *http.Request) (any, error) {
		list, err := summaries(r.Context(), q)
		if err != nil {
			return nil, err
		}
		f, top := q.Flow(), QueueTop{At: time.Now(), Destinations: list[:min(len(list), topDestinations)]}
		top.Active, top.Delivered, top.Deferred, top.Failed = f.Active, f.Delivered, f.Deferred, f.Failed
		for _, s := range list {
			top.Pending += s.Pending
			top.Held += s.Held
		}
		return top, nil
	}))
	mux.HandleFunc("GET /queue/{id}", command(func(r *http.Request) (any, error) {
		id, err := pathID(r)
		if err != nil {
			return nil, err
		}
		e, _, err := q.Show(r.Context(), id)
		return publicEntry(e), err
	}))
	mux.HandleFunc("GET /queue/{id}/message", func(w http.ResponseWriter, r *http.Request) { d.queuedMessage(w, r, q) })
	mux.HandleFunc("POST /queue/flush", command(func(r *http.Request) (any, error) {
		d.log.Info("queue flushed by command", "role", "mta")
		return QueueChange{"every waiting recipient is due now"}, q.Flush(r.Context())
	}))
	for verb, act := range map[string]func(context.Context, int64) error{
		"hold": q.Hold, "release": q.Release, "return": q.Return, "delete": q.Delete,
		"flush": func(ctx context.Context, id int64) error { return q.Flush(ctx, id) },
	} {
		mux.HandleFunc("POST /queue/{id}/"+verb, command(func(r *http.Request) (any, error) {
			id, err := pathID(r)
			if err != nil {
				return nil, err
			}
			e, _, err := q.Show(r.Context(), id)
			if err == nil {
				err = act(r.Context(), id)
			}
			if err != nil {
				return nil, err
			}
			log.Info("queue entry changed by command", "trace", string(e.Trace), "queue_id", id, "command", verb)
			return QueueChange{verb}, nil
		}))
	}
	return mux
}

// topDestinations is how many destinations QueueTop names.
const topDestinations = 100

func summaries(ctx context.Context, q *queue.Queue) ([]QueueSummary, error) {
	sums, err := q.Summaries(ctx)
	list := make([]QueueSummary, len(sums))
	for i, s := range sums {
		list[i] = QueueSummary{s.Destination, s.Pending, s.Held, s.Oldest, s.Next, s.Status, s.Active, s.Paused}
	}
	return list, err
}

func (d *daemon) queuedMessage(w http.ResponseWriter, r *http.Request, q *queue.Queue) {
	fail := func(err error) { command(func(*http.Request) (any, error) { return nil, err })(w, r) }
	id, err := pathID(r)
	if err != nil {
		fail(err)
		return
	}
	_, body, err := q.Show(r.Context(), id)
	if err != nil {
		fail(err)
		return
	}
	rc, err := body.Open()
	if err != nil {
		fail(err)
		return
	}
	defer rc.Close()
	w.Header().Set("Content-Type", "message/rfc822")
	w.Header().Set("Content-Length", strconv.FormatInt(body.Size(), 10))
	_, _ = io.Copy(w, rc) // a short answer tells the client that it failed
}

// readFilter reads what QueueFilter.Values wrote.
func readFilter(v url.Values) (queue.Filter, error) {
	f := queue.Filter{Domain: v.Get("host"), Status: v.Get("error")}
	bad := func(err error) (queue.Filter, error) { return f, errors.Join(errBadCommand, err) }
	for key, place := range map[string]*mail.Address{"from": &f.From, "to": &f.To} {
		if text := v.Get(key); text != "" {
			a, err := mail.ParseAddress(text)
			if err != nil {
				return bad(err)
			}
			*place = a
		}
	}
	if text := v.Get("older"); text != "" {
		age, err := time.ParseDuration(text)
		if err != nil {
			return bad(err)
		}
		f.Before = time.Now().Add(-age)
	}
	if text := v.Get("after"); text != "" {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return bad(fmt.Errorf("after: %w", err))
		}
		f.After = id
	}
	return f, nil
}

func publicEntry(e queue.Entry) QueueEntry {
	out := QueueEntry{ID: e.ID, Trace: string(e.Trace), From: e.From.String(), Size: e.Size, Arrived: e.Arrived}
	for _, r := range e.Recipients {
		if r.Next.Before(e.Arrived) && r.State == queue.Pending {
			r.Next = e.Arrived // due at once
		}
		out.Recipients = append(out.Recipients, QueueRecipient{Address: r.Address.String(), State: r.State.String(),
			Attempts: r.Attempts, Tried: r.Tried, Next: r.Next, Status: r.Status})
	}
	return out
}
