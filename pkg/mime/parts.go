package mime

import (
	"encoding/binary"
	"errors"
	"iter"
)

// ErrTable is returned for a table of parts that AppendParts did not make.
var ErrTable = errors.New("malformed table of parts")

const tableVersion = 1

// Bounds of a decoded table, above what a scan under DefaultLimits makes.
const (
	maxTableDepth = 256
	maxTableParts = 1 << 16
)

// The kinds of entity in a table.
const (
	kindLeaf = iota
	kindText
	kindMultipart
	kindMessage
)

var encodings = [...]string{"7bit", "8bit", "binary", "base64", "quoted-printable"}

// AppendParts appends a compact table of where the message's parts are, to be
// stored and read with DecodeParts. It begins with its version.
func (m *Message) AppendParts(dst []byte) []byte {
	return appendNode(append(dst, tableVersion), &m.Root, 0)
}

// appendNode appends p relative to from, the offset where its parent's body begins.
func appendNode(dst []byte, p *Part, from int64) []byte {
	kind := byte(kindLeaf)
	switch {
	case p.IsMultipart():
		kind = kindMultipart
	case p.Message != nil:
		kind = kindMessage
	case p.IsText():
		kind = kindText
	}
	code := 0
	for code < len(encodings) && encodings[code] != p.Encoding {
		code++
	}
	dst = append(dst, kind|byte(code)<<4)
	dst = binary.AppendUvarint(dst, uint64(p.HeaderOffset-from))
	dst = binary.AppendUvarint(dst, uint64(p.BodyOffset-p.HeaderOffset))
	dst = binary.AppendUvarint(dst, uint64(p.End-p.BodyOffset))
	switch kind {
	case kindText:
		charset := p.Charset()
		charset = charset[:min(len(charset), 255)]
		dst = append(append(dst, byte(len(charset))), charset...)
	case kindMultipart:
		dst = binary.AppendUvarint(dst, uint64(len(p.Children)))
		for i := range p.Children {
			dst = appendNode(dst, &p.Children[i], p.BodyOffset)
		}
	case kindMessage:
		dst = appendNode(dst, &p.Message.Root, p.BodyOffset)
	}
	return dst
}

// Parts is where the parts of one message are. It may be used from many goroutines.
type Parts struct{ root node }

type node struct {
	Range
	kind     byte
	children []node // of a message: the embedded message, alone
}

// Range is the place of one entity within the whole message, in octets.
type Range struct {
	// Header is where its header begins, Body where its body does, End the end.
	Header, Body, End int64
	// Encoding is its transfer encoding in lower case; empty if unknown.
	Encoding string
	// Charset is that of a text; empty for all other types.
	Charset string
	// IsMessage says the entity is a message/rfc822 part: it has .HEADER and .TEXT.
	IsMessage bool
}

// DecodeParts reads a table made by AppendParts. ErrTable.
func DecodeParts(b []byte) (*Parts, error) {
	if len(b) == 0 || b[0] != tableVersion {
		return nil, ErrTable
	}
	d := tableDecoder{b: b[1:]}
	p := &Parts{}
	d.node(&p.root, 0, 1<<62, 0)
	if d.bad || len(d.b) > 0 {
		return nil, ErrTable
	}
	return p, nil
}

type tableDecoder struct {
	b     []byte
	parts int
	bad   bool
}

func (d *tableDecoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// size reads a number no larger than most.
func (d *tableDecoder) size(most int64) int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || most < 0 || v > uint64(most) {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

// node reads an entity that lies within from and end.
func (d *tableDecoder) node(n *node, from, end int64, depth int) {
	if d.parts++; d.parts > maxTableParts || depth > maxTableDepth {
		d.bad = true
	}
	head := d.byte()
	n.kind = head & 0x0f
	n.IsMessage = n.kind == kindMessage
	if code := int(head >> 4); code < len(encodings) {
		n.Encoding = encodings[code]
	}
	n.Header = from + d.size(end-from)
	n.Body = n.Header + d.size(end-n.Header)
	n.End = n.Body + d.size(end-n.Body)
	if d.bad {
		return
	}
	switch n.kind {
	case kindLeaf:
	case kindText:
		size := int(d.byte())
		if size > len(d.b) {
			d.bad = true
			return
		}
		n.Charset = string(d.b[:size])
		d.b = d.b[size:]
	case kindMultipart:
		count := d.size(int64(len(d.b))) // a node takes four octets and more
		for range count {
			if d.bad {
				return
			}
			n.children = append(n.children, node{})
			d.node(&n.children[len(n.children)-1], n.Body, n.End, depth+1)
		}
		d.bad = d.bad || count == 0
	case kindMessage:
		n.children = make([]node, 1)
		d.node(&n.children[0], n.Body, n.End, depth+1)
	default:
		d.bad = true
	}
}

// Find returns the part that BODY[path] names, counted from 1 (RFC 9051
// §6.4.5.1); an empty path is the whole message. [Body,End) is what
// BODY[path] yields, [Header,Body) what BODY[path.MIME] does; for the whole
// message BODY[] is [Header,End).
func (p *Parts) Find(path []int) (Range, bool) {
	n, ok := p.find(path)
	if !ok {
		return Range{}, false
	}
	return n.Range, true
}

// Message returns the message in the part that path names, the whole message
// for an empty path: [Header,Body) is HEADER, [Body,End) is TEXT.
func (p *Parts) Message(path []int) (Range, bool) {
	n, ok := p.find(path)
	switch {
	case !ok || len(path) > 0 && n.kind != kindMessage:
		return Range{}, false
	case len(path) == 0:
		return n.Range, true
	}
	return n.children[0].Range, true
}

func (p *Parts) find(path []int) (*node, bool) {
	n, message := &p.root, true // message: n is a message, not yet a part of one
	for _, i := range path {
		if !message && n.kind == kindMessage {
			n, message = &n.children[0], true
		}
		switch {
		case n.kind == kindMultipart && i >= 1 && i <= len(n.children):
			n = &n.children[i-1]
		case n.kind != kindMultipart && message && i == 1: // the body of a message that is no multipart
		default:
			return nil, false
		}
		message = false
	}
	return n, true
}

// Headers yields the header of the message and of each message within it, as
// ranges whose header is [Header,Body).
func (p *Parts) Headers() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		if yield(p.root.Range) {
			p.root.headers(yield)
		}
	}
}

func (n *node) headers(yield func(Range) bool) bool {
	for i := range n.children {
		c := &n.children[i]
		if n.kind == kindMessage && !yield(c.Range) || !c.headers(yield) {
			return false
		}
	}
	return true
}

// Texts yields the text parts in their order; NewTextReader decodes them.
func (p *Parts) Texts() iter.Seq[Range] {
	return func(yield func(Range) bool) { p.root.texts(yield) }
}

func (n *node) texts(yield func(Range) bool) bool {
	if n.kind == kindText && !yield(n.Range) {
		return false
	}
	for i := range n.children {
		if !n.children[i].texts(yield) {
			return false
		}
	}
	return true
}
