package journal

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mailsrv/pkg/mail"
)

// Handler returns a slog.Handler that keeps what is logged about a message, at
// Info and above, and hands everything on to next.
func (j *Journal) Handler(next slog.Handler) slog.Handler { return &handler{journal: j, next: next} }

type handler struct {
	journal *Journal
	next    slog.Handler
	// attrs are those of With; trace is the one among them.
	attrs []slog.Attr
	trace mail.TraceID
	group bool
}

// traceKey is the attribute by which a line is about a message.
const traceKey = "trace"

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo && !h.group {
		h.keep(r)
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	c.attrs = append(slices.Clip(h.attrs), attrs...)
	for _, a := range attrs {
		if a.Key == traceKey {
			c.trace = mail.TraceID(a.Value.String())
		}
	}
	return &c
}

// WithGroup implements slog.Handler; no line about a message has groups.
func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.next, c.group = h.next.WithGroup(name), true
	return &c
}

// keep adds a line to the journal, if it is about a message.
func (h *handler) keep(r slog.Record) {
	e := event{trace: h.trace, at: r.Time}
	if e.trace == "" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == traceKey {
				e.trace = mail.TraceID(a.Value.String())
			}
			return e.trace == ""
		})
	}
	if e.trace == "" {
		return
	}
	if e.at.IsZero() {
		e.at = h.journal.o.Now()
	}
	line := append(make([]byte, 0, 256), `{"at":"`...)
	line = append(e.at.UTC().AppendFormat(line, time.RFC3339Nano), `","level":"`...)
	line = append(append(line, r.Level.String()...), `","event":`...)
	line = append(appendString(line, r.Message), `,"about":{`...)
	first := true
	add := func(a slog.Attr) bool {
		if a.Key == traceKey || a.Key == "" {
			return true
		}
		if !first {
			line = append(line, ',')
		}
		first = false
		text := a.Value.Resolve().String()
		line = appendString(append(appendString(line, a.Key), ':'), text)
		e.words = appendWords(e.words, a.Key, text)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	e.line = append(line, "}}"...)
	h.journal.add(e)
}

// maxWords bounds by how many words one event is found.
const maxWords = 1000

// appendWords adds what an attribute lets a message be found by: the addresses
// of its envelope, its Message-ID, and its entries in the queue.
func appendWords(words []string, key, text string) []string {
	switch key {
	case "from", "to", "account":
		for w := range strings.FieldsSeq(text) {
			if strings.Contains(w, "@") && len(words) < maxWords {
				words = append(words, strings.ToLower(w))
			}
		}
	case "message_id":
		if id := strings.Trim(text, "<> "); id != "" && len(id) < 500 {
			words = append(words, strings.ToLower(id))
		}
	case "queue_id":
		words = append(words, queueWord(text))
	}
	return words
}

func queueWord(id string) string { return "#" + id }

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // of a string: never fails
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
