package imapserver

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// METADATA and METADATA-SERVER (RFC 5464). Rights and limits are the store's.

// maxEntries bounds the entries that one command names.
const maxEntries = 250

// metadataRequest is what a GETMETADATA asks for.
type metadataRequest struct {
	entries []string
	// depth: how many levels below each are wanted; -1: all.
	depth int
	// maxSize: larger values are left out; -1: none are.
	maxSize int64
}

// getMetadata is GETMETADATA (RFC 5464 §4.2). Its options come before the
// mailbox by the grammar, and after it in the RFC's examples; clients do both.
func (c *session) getMetadata(cmd *imapwire.Command) error {
	l := cmd.Args
	q := metadataRequest{maxSize: -1}
	l.Space()
	options := l.Peek() == '('
	if options {
		q.readOptions(l)
		l.Space()
	}
	name := l.Mailbox()
	l.Space()
	if !options && l.Peek() == '(' && q.optionsFollow(l) {
		l.Space()
	}
	if len(q.entries) == 0 {
		q.entries = readEntries(l)
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	longest, err := c.tellMetadata(name, &q)
	if err != nil {
		return metadataError(err)
	}
	if longest > 0 {
		c.code = strconv.AppendInt(append(c.code, "METADATA LONGENTRIES "...), int64(longest), 10)
	}
	return nil
}

// readOptions reads MAXSIZE and DEPTH in parentheses.
func (q *metadataRequest) readOptions(l *imapwire.Lexer) {
	l.List(func() { q.readOption(l, l.Keyword()) })
}

func (q *metadataRequest) readOption(l *imapwire.Lexer, option string) {
	l.Space()
	switch option {
	case "MAXSIZE":
		q.maxSize = int64(l.Number())
	case "DEPTH":
		switch depth := l.Keyword(); depth {
		case "0":
		case "1":
			q.depth = 1
		case "INFINITY":
			q.depth = -1
		default:
			l.Fail("expected DEPTH 0, 1 or infinity")
		}
	default:
		l.Fail("unknown GETMETADATA option")
	}
}

// optionsFollow reads the parenthesis behind a mailbox's name, and reports
// whether it held options; if not, it held the entries.
func (q *metadataRequest) optionsFollow(l *imapwire.Lexer) (options bool) {
	l.List(func() {
		if c := l.Peek(); len(q.entries) > 0 || c == '/' || c == '"' || c == '{' {
			q.entries = appendEntry(q.entries, l)
			return
		}
		options = true
		q.readOption(l, l.Keyword())
	})
	if options && len(q.entries) > 0 {
		l.Fail("expected options or entries")
	}
	return options
}

// readEntries reads the names of entries, one or several in parentheses.
func readEntries(l *imapwire.Lexer) (entries []string) {
	if l.Peek() != '(' {
		return appendEntry(nil, l)
	}
	l.List(func() { entries = appendEntry(entries, l) })
	if len(entries) == 0 {
		l.Fail("expected an entry")
	}
	return entries
}

// appendEntry reads one name. "/private" and "/shared" are whole trees here.
func appendEntry(entries []string, l *imapwire.Lexer) []string {
	name := strings.ToLower(l.AString())
	if _, err := store.ParseEntry(name); err != nil && name != "/private" && name != "/shared" {
		l.Fail("%v", err)
	}
	if len(entries) == maxEntries {
		l.Fail("too many entries")
		return entries
	}
	return append(entries, name)
}

// wants reports whether an entry that is there was asked for.
func (q *metadataRequest) wants(entry string) bool {
	return slices.ContainsFunc(q.entries, func(name string) bool {
		below, ok := strings.CutPrefix(entry, name)
		switch {
		case !ok:
			return false
		case below == "":
			return true
		}
		return below[0] == '/' && (q.depth < 0 || q.depth == 1 && strings.LastIndexByte(below, '/') == 0)
	})
}

// tellMetadata writes the METADATA response for a mailbox, or for the server if
// the name is empty, and returns the size of the largest value left out.
// Entries that were named and have no value are NIL.
func (c *session) tellMetadata(name string, q *metadataRequest) (longest int, err error) {
	if c.store.Sharing == nil {
		return 0, &response{status: "BAD", text: "unknown command"}
	}
	list, err := c.store.Sharing.Metadata(c.ctx, name)
	if err != nil {
		return 0, err
	}
	out := c.appendMailbox(append(c.conn.Out(), "* METADATA "...), name)
	out = append(out, " ("...)
	start := len(out)
	for _, a := range list {
		if !q.wants(a.Entry) {
			continue
		}
		if q.maxSize >= 0 && int64(len(a.Value)) > q.maxSize {
			longest = max(longest, len(a.Value))
			continue
		}
		out = append(imapwire.AppendAString(out, a.Entry), ' ')
		out = append(appendValue(out, a.Value), ' ')
	}
	if q.depth == 0 {
		for _, name := range q.entries {
			if !slices.ContainsFunc(list, func(a store.Annotation) bool { return a.Entry == name }) {
				out = append(imapwire.AppendAString(out, name), " NIL "...)
			}
		}
	}
	if len(out) > start {
		out[len(out)-1] = ')'
		c.conn.SetOut(append(out, "\r\n"...))
	}
	return longest, nil
}

// appendValue appends a string, or a literal8 if it has to be one.
func appendValue(dst, value []byte) []byte {
	if bytes.IndexByte(value, 0) < 0 {
		return imapwire.AppendString(dst, string(value))
	}
	return append(imapwire.AppendLiteral(append(dst, '~'), int64(len(value))), value...)
}

// setMetadata is SETMETADATA (RFC 5464 §4.3).
func (c *session) setMetadata(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	name := l.Mailbox()
	l.Space()
	var changes []store.Annotation
	l.List(func() {
		entry := l.AString()
		parsed, err := store.ParseEntry(entry)
		if err != nil {
			l.Fail("%v", err)
		}
		l.Space()
		change := store.Annotation{Entry: parsed}
		if value, ok := l.NBinary(); ok {
			change.Value = append([]byte{}, value...)
		}
		if len(changes) == maxEntries {
			l.Fail("too many entries")
			return
		}
		changes = append(changes, change)
	})
	if len(changes) == 0 {
		l.Fail("expected an entry")
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	if c.store.Sharing == nil {
		return &response{status: "BAD", text: "unknown command"}
	}
	return metadataError(c.store.Sharing.SetMetadata(c.ctx, name, changes))
}

func metadataError(err error) error {
	switch {
	case errors.Is(err, store.ErrTooLarge):
		return no(fmt.Sprintf("METADATA MAXSIZE %d", store.MaxAnnotation), "value is too large")
	case errors.Is(err, store.ErrTooMany):
		return no("METADATA TOOMANY", "too many entries, or too much in them")
	}
	return err
}
