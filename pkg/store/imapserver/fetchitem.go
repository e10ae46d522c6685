package imapserver

import (
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// maxSections bounds the sections of one FETCH.
const maxSections = 100

// fetchRequest is what a FETCH asks for. Items that were asked for twice are
// answered once, and in our order.
type fetchRequest struct {
	uid, flags, internalDate, size, envelope, body, bodyStructure, modSeq bool
	saveDate, emailID, threadID, preview                                  bool

	sections []fetchSection
	// since: only messages that changed after it; vanished: and tell which
	// are gone since then (RFC 7162 §3.1.4.1, §3.2.6).
	since    store.ModSeq
	vanished bool
	// partial: only those messages of the set; nil: all (RFC 9394 §3.2).
	partial *partialRange
}

// fetchSection is one BODY[...] or one of its old names.
type fetchSection struct {
	imapwire.Section
	// label is how the response names it, with a space behind it.
	label   string
	peek    bool
	partial *imapwire.Partial
	// binary: without the transfer encoding; sizeOnly: how long that is.
	binary, sizeOnly bool
}

// readFetch reads the items of a FETCH: a macro, one item, or a list.
func readFetch(l *imapwire.Lexer) *fetchRequest {
	q := &fetchRequest{}
	if l.Peek() == '(' {
		l.List(func() { q.readItem(l, l.Keyword()) })
		return q
	}
	switch word := l.Keyword(); word {
	case "FULL":
		q.body = true
		fallthrough
	case "ALL":
		q.envelope = true
		fallthrough
	case "FAST":
		q.flags, q.internalDate, q.size = true, true, true
	default:
		q.readItem(l, word)
	}
	return q
}

// readModifiers reads what may stand behind the items (RFC 4466 §2.4).
func (q *fetchRequest) readModifiers(l *imapwire.Lexer, uid bool) {
	if !l.Take(' ') || l.AtEnd() {
		return
	}
	l.List(func() {
		switch l.Keyword() {
		case "CHANGEDSINCE":
			l.Space()
			q.modSeq = true
			if q.since = readModSeq(l); q.since == 0 {
				l.Fail("a MODSEQ is 1 or more")
			}
		case "PARTIAL":
			l.Space()
			if q.partial = readPartialRange(l); !uid {
				l.Fail("PARTIAL goes with UID FETCH")
			}
		case "VANISHED":
			q.vanished = true
		default:
			l.Fail("unknown FETCH modifier")
		}
	})
	if q.vanished && (q.since == 0 || !uid) {
		l.Fail("VANISHED goes with UID FETCH and CHANGEDSINCE")
	}
}

func (q *fetchRequest) readItem(l *imapwire.Lexer, word string) {
	switch word {
	case "UID":
		q.uid = true
	case "FLAGS":
		q.flags = true
	case "PREVIEW":
		q.readPreview(l)
	case "SAVEDATE":
		q.saveDate = true
	case "EMAILID":
		q.emailID = true
	case "THREADID":
		q.threadID = true
	case "MODSEQ":
		q.modSeq = true
	case "INTERNALDATE":
		q.internalDate = true
	case "RFC822.SIZE":
		q.size = true
	case "ENVELOPE":
		q.envelope = true
	case "BODYSTRUCTURE":
		q.bodyStructure = true
	case "BODY":
		if l.Peek() == '[' {
			q.readSection(l, false)
		} else {
			q.body = true
		}
	case "BODY.PEEK":
		q.readSection(l, true)
	case "BINARY":
		q.readBinary(l, false, false)
	case "BINARY.PEEK":
		q.readBinary(l, true, false)
	case "BINARY.SIZE":
		q.readBinary(l, true, true)
	case "RFC822":
		q.add(l, fetchSection{label: "RFC822 "})
	case "RFC822.HEADER":
		q.add(l, fetchSection{label: "RFC822.HEADER ", peek: true, Section: imapwire.Section{Part: imapwire.PartHeader}})
	case "RFC822.TEXT":
		q.add(l, fetchSection{label: "RFC822.TEXT ", Section: imapwire.Section{Part: imapwire.PartText}})
	default:
		l.Fail("unknown FETCH item")
	}
}

func (q *fetchRequest) readSection(l *imapwire.Lexer, peek bool) {
	s := fetchSection{Section: l.Section(), peek: peek}
	label := s.readPartial(l, s.Append([]byte("BODY")))
	s.label = string(append(label, ' '))
	q.add(l, s)
}

// readPartial reads <offset.count>, if it is there, and appends to label what
// the answer says of it.
func (s *fetchSection) readPartial(l *imapwire.Lexer, label []byte) []byte {
	p, ok := l.Partial()
	if !ok {
		return label
	}
	s.partial = &p
	return append(strconv.AppendInt(append(label, '<'), p.Offset, 10), '>')
}

func (q *fetchRequest) add(l *imapwire.Lexer, s fetchSection) {
	if len(q.sections) == maxSections {
		l.Fail("too many sections")
		return
	}
	q.sections = append(q.sections, s)
}

// fields is what the store has to read for the request.
func (q *fetchRequest) fields() store.Fields {
	var f store.Fields
	if q.emailID {
		f |= store.FieldID
	}
	if q.preview {
		f |= store.FieldParts
	}
	if q.internalDate || q.size || q.saveDate || q.threadID {
		f |= store.FieldMeta
	}
	if q.envelope {
		f |= store.FieldEnvelope
	}
	if q.body || q.bodyStructure {
		f |= store.FieldBodyStructure
	}
	for i := range q.sections {
		switch s := &q.sections[i]; {
		case s.inHeader():
			f |= store.FieldHeader
		case len(s.Path) > 0 || s.Part != imapwire.PartWhole:
			f |= store.FieldParts
		}
	}
	return f
}

// inHeader reports whether the section lies in the message's own header, which
// the store gives without reading the body.
func (s *fetchSection) inHeader() bool {
	return len(s.Path) == 0 && (s.Part == imapwire.PartHeader || s.Part == imapwire.PartHeaderFields || s.Part == imapwire.PartHeaderFieldsNot)
}

// needsBody reports whether the message's bytes must be read.
func (q *fetchRequest) needsBody() bool {
	if q.preview {
		return true
	}
	for i := range q.sections {
		if !q.sections[i].inHeader() {
			return true
		}
	}
	return false
}

// setsSeen reports whether the request sets \Seen.
func (q *fetchRequest) setsSeen() bool {
	for i := range q.sections {
		if !q.sections[i].peek {
			return true
		}
	}
	return false
}
