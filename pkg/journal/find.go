package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// Event is one line about a message.
type Event struct {
	At    time.Time `json:"at"`
	Level string    `json:"level"`
	// Event is the log's message, About its attributes.
	Event string            `json:"event"`
	About map[string]string `json:"about"`
}

// Events returns what is known of a message, in order of time; none if it is
// not known, or not any more.
func (j *Journal) Events(ctx context.Context, trace mail.TraceID) ([]Event, error) {
	if err := j.flush(ctx); err != nil {
		return nil, fmt.Errorf("reading journal: %w", err)
	}
	var events []Event
	err := j.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT lines FROM records WHERE trace=? ORDER BY id", []any{string(trace)}, func(scan func(...any) error) error {
			var lines string
			if err := scan(&lines); err != nil {
				return err
			}
			for line := range strings.Lines(lines) {
				var e Event
				if err := json.Unmarshal([]byte(line), &e); err != nil {
					return fmt.Errorf("decoding an event: %w", err)
				}
				events = append(events, e)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading journal: %w", err)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return a.At.Compare(b.At) })
	return events, nil
}

// Find returns the traces of the newest messages that an address, a Message-ID
// or the id of a queue entry leads to, the newest first, at most limit.
func (j *Journal) Find(ctx context.Context, what string, limit int) ([]mail.TraceID, error) {
	if err := j.flush(ctx); err != nil {
		return nil, fmt.Errorf("reading journal: %w", err)
	}
	word := strings.ToLower(strings.Trim(what, "<> "))
	if word != "" && strings.Trim(word, "0123456789") == "" {
		word = queueWord(word)
	}
	var traces []mail.TraceID
	err := j.db.Read(ctx, func(tx *sqlite.Tx) error {
		today := dayOf(j.o.Now())
		for d := today + 1; d >= today-int64(j.o.Keep/day)-1 && len(traces) < limit; d-- {
			err := tx.Query("SELECT trace FROM words WHERE day=? AND word=? ORDER BY at DESC LIMIT ?", []any{d, word, limit}, func(scan func(...any) error) error {
				var t string
				err := scan(&t)
				if id := mail.TraceID(t); !slices.Contains(traces, id) && len(traces) < limit {
					traces = append(traces, id)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("searching journal: %w", err)
	}
	return traces, nil
}
