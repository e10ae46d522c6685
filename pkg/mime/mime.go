// Package mime reads a message once, from the first byte to the last, and
// keeps what IMAP asks for again and again: its header block, its envelope, the
// tree of its parts with their places in the message, and both body structures
// (RFC 5322, RFC 2045 to 2047, RFC 2231, RFC 9051 §7.5.2).
//
// It holds no message: memory is bounded by Limits and time is linear in the
// message's size, whatever a stranger put into it. Nothing in a message is an
// error: what is malformed, too deep or too much becomes an opaque leaf or is
// left out, and only a failing reader fails a scan.
//
// It does not judge a message, and does not write one.
package mime

// Limits bound what a scan keeps. Zero fields take the value of DefaultLimits.
type Limits struct {
	// Header bounds the kept header block of the message, in octets. A longer
	// one is cut; offsets stay right.
	Header int
	// PartHeaders bounds what is kept of all headers within the body together.
	PartHeaders int
	// Depth bounds parts within parts; what is deeper is an opaque leaf.
	Depth int
	// Parts bounds the parts of the message; what follows is not taken apart.
	Parts int
	// Boundary is the longest boundary that is looked for, in octets.
	Boundary int
	// Params bounds the parameters of one field.
	Params int
	// Addresses bounds each address list of an envelope.
	Addresses int
}

// DefaultLimits are those of a server that takes mail from strangers.
func DefaultLimits() Limits {
	return Limits{
		Header: 1 << 20, PartHeaders: 1 << 20, Depth: 100, Parts: 10_000,
		Boundary: 2048, Params: 100, Addresses: maxAddresses,
	}
}

func (l Limits) orDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct {
		have *int
		want int
	}{
		{&l.Header, d.Header}, {&l.PartHeaders, d.PartHeaders}, {&l.Depth, d.Depth}, {&l.Parts, d.Parts},
		{&l.Boundary, d.Boundary}, {&l.Params, d.Params}, {&l.Addresses, d.Addresses},
	} {
		if *f.have <= 0 {
			*f.have = f.want
		}
	}
	return l
}

// Message is what a scan found. It is not changed afterwards and may be used
// from many goroutines.
type Message struct {
	// Header is the header block with the empty line that ends it, at most
	// Limits.Header octets: it was cut if it is shorter than Root.BodyOffset.
	Header []byte
	// Size is the whole message's, in octets.
	Size int64
	// MessageID is the first Message-ID with its angle brackets; it may be empty.
	MessageID string
	// Root is the message itself as a part.
	Root Part

	envelope  Envelope
	addresses int // limit of each list
}

// Part is one entity: the message, a part of a multipart, or an embedded
// message. Offsets count octets from the start of the whole message.
type Part struct {
	// HeaderOffset is where its header begins, BodyOffset where its body does
	// (after the empty line), End the end of its body: the line end before a
	// boundary is not part of it.
	HeaderOffset, BodyOffset, End int64
	// Lines counts the line ends of the body.
	Lines int64
	// Type, Subtype and Encoding are in lower case; a leaf that was not taken
	// apart because of a limit is application/octet-stream.
	Type, Subtype, Encoding string
	// Params are those of Content-Type, names as written and RFC 2231 forms
	// not decoded.
	Params []Param
	// ID, Description, MD5, Location and Language are the raw unfolded fields.
	ID, Description, MD5, Location, Language string
	// Disposition is in lower case; empty if there is none.
	Disposition       string
	DispositionParams []Param
	// Children are the parts of a multipart, at least one.
	Children []Part
	// Message is the message within a message/rfc822 or message/global part.
	Message *Embedded
}

// Param is a parameter of a field.
type Param struct{ Name, Value string }

// Embedded is a message within a part.
type Embedded struct {
	// Root is the message as a part: its header begins where the outer body does.
	Root     Part
	envelope Envelope
}

// IsMultipart reports whether the part was taken apart into Children.
func (p *Part) IsMultipart() bool { return len(p.Children) > 0 }

// IsText reports whether the part is of a text type.
func (p *Part) IsText() bool { return p.Type == "text" }

// Charset is the charset parameter of a text, us-ascii if there is none.
func (p *Part) Charset() string {
	for _, param := range p.Params {
		if equalFold(param.Name, "charset") && param.Value != "" {
			return param.Value
		}
	}
	return "us-ascii"
}
