package imapserver

import (
	"fmt"
	"strconv"
	"strings"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/thread"
	"mailsrv/pkg/wire/imapwire"
)

// threadMessages is THREAD (RFC 5256 §3), uidThread UID THREAD.
func (c *session) threadMessages(cmd *imapwire.Command) error { return c.threadBy(cmd, false) }
func (c *session) uidThread(cmd *imapwire.Command) error      { return c.threadBy(cmd, true) }

func (c *session) threadBy(cmd *imapwire.Command, uid bool) error {
	if err := c.poll(false); err != nil { // flags as they are now
		return err
	}
	l := cmd.Args
	l.Space()
	algorithm := thread.ByReferences
	switch l.Keyword() {
	case "REFERENCES":
	case "ORDEREDSUBJECT":
		algorithm = thread.ByOrderedSubject
	default:
		l.Fail("unknown threading algorithm")
	}
	l.Space()
	q := &searchRequest{}
	if err := c.readAfterCharset(q, l); err != nil {
		return err
	}
	found, err := c.find(cmd.Tag, q)
	var messages []thread.Message
	if err == nil {
		messages, err = c.threadable(found)
	}
	if err != nil {
		return fmt.Errorf("threading %q: %w", c.box.box.Name(), err)
	}
	out := append(c.conn.Out(), "* THREAD"...)
	if roots := algorithm(messages); len(roots) > 0 {
		out = append(out, ' ')
		for _, root := range roots {
			out = c.box.appendThread(out, root, uid)
		}
	}
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}

// threadable reads what threading asks about messages.
func (c *session) threadable(found []int) ([]thread.Message, error) {
	if len(found) == 0 {
		return nil, nil
	}
	all := make([]thread.Message, 0, len(found))
	for m, err := range c.box.box.Messages(c.ctx, uidsAt(c.box, found), store.FieldMeta|store.FieldHeader) {
		if err != nil {
			return nil, err
		}
		i, known := c.box.index(m.UID)
		if !known {
			continue
		}
		t := thread.Message{ID: i, Date: sentAt(m), Subject: decodedField(m.Header, "Subject")}
		if ids := messageIDs(m.Header, "Message-ID"); len(ids) > 0 {
			t.MessageID = ids[0]
		}
		t.References = messageIDs(m.Header, "References")
		if len(t.References) == 0 {
			t.References = messageIDs(m.Header, "In-Reply-To")
			t.References = t.References[:min(len(t.References), 1)]
		}
		all = append(all, t)
	}
	return all, nil
}

// messageIDs returns the ids between angle brackets in a field, without white
// space.
func messageIDs(header []byte, name string) []string {
	value, _ := mime.First(header, name)
	var ids []string
	for {
		_, after, found := strings.Cut(value, "<")
		id, rest, closed := strings.Cut(after, ">")
		if !found || !closed {
			return ids
		}
		if id = strings.Join(strings.Fields(id), ""); id != "" {
			ids = append(ids, id)
		}
		value = rest
	}
}

// appendThread appends a thread as "(1 2 (3)(4 5))" (RFC 5256 §4). A long
// chain of replies takes no stack.
func (v *view) appendThread(dst []byte, root *thread.Node, uid bool) []byte {
	type frame struct {
		siblings []*thread.Node
		close    bool // a parenthesis of its own for each sibling
	}
	todo := []frame{{siblings: []*thread.Node{root}, close: true}}
	for len(todo) > 0 {
		top := &todo[len(todo)-1]
		if len(top.siblings) == 0 {
			todo = todo[:len(todo)-1]
			if len(todo) > 0 && todo[len(todo)-1].close {
				dst = append(dst, ')')
			}
			continue
		}
		n := top.siblings[0]
		top.siblings = top.siblings[1:]
		if top.close {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ' ')
		}
		if n.ID >= 0 {
			number := uint32(n.ID + 1)
			if uid {
				number = uint32(v.uids[n.ID])
			}
			dst = strconv.AppendUint(dst, uint64(number), 10)
			if len(n.Children) > 1 {
				dst = append(dst, ' ')
			}
		}
		todo = append(todo, frame{siblings: n.Children, close: len(n.Children) > 1})
	}
	return dst
}
