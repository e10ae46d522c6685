package ldapwire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Errors of reading. Both leave a connection at no known place: close it.
var (
	// ErrSyntax: the bytes are no BER as RFC 4511 §5.1 restricts it, or no LDAPMessage.
	ErrSyntax = errors.New("malformed LDAP message")
	// ErrTooLarge: a message claims to be longer than the limit. Nothing was
	// allocated for it.
	ErrTooLarge = errors.New("LDAP message too large")
)

// Tag is the identifier octet of a BER element (X.690 §8.1.2): class, form and
// a number below 31, which is all that LDAP uses.
type Tag byte

const (
	tagBoolean     Tag = 0x01
	tagInteger     Tag = 0x02
	tagOctetString Tag = 0x04
	tagEnumerated  Tag = 0x0a
	tagSequence    Tag = 0x30
	tagSet         Tag = 0x31
)

// maxLengthOctets is how many octets a long-form length may have. Some senders
// pad with zeros (X.690 §10.1 does not bind LDAP), so four are not enough.
const maxLengthOctets = 8

// chunk is how much of a large message is allocated ahead of its bytes.
const chunk = 16 << 10

// ReadPDU reads the bytes of one LDAPMessage, whose contents may be limit
// bytes long at the most. The length is judged before anything is allocated,
// and memory follows the bytes that really come. io.EOF means the peer closed
// between messages. r needs a buffer of 16 bytes or more.
func ReadPDU(r *bufio.Reader, limit int) (string, error) {
	header, err := r.Peek(2)
	if err != nil {
		if len(header) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return "", err
	}
	if Tag(header[0]) != tagSequence {
		return "", fmt.Errorf("%w: starts with %#02x", ErrSyntax, header[0])
	}
	length, size := uint64(header[1]), 2
	if header[1] >= 0x80 {
		size += int(header[1] & 0x7f)
		if size == 2 || size > 2+maxLengthOctets {
			return "", fmt.Errorf("%w: indefinite or absurd length", ErrSyntax)
		}
		if header, err = r.Peek(size); err != nil {
			return "", midMessage(err)
		}
		length = 0
		for _, b := range header[2:] {
			length = length<<8 | uint64(b)
		}
	}
	if length > uint64(limit) {
		return "", fmt.Errorf("%w: %d bytes", ErrTooLarge, length)
	}
	return readExactly(r, size+int(length))
}

func readExactly(r *bufio.Reader, n int) (string, error) {
	if n <= r.Size() {
		b, err := r.Peek(n)
		if err != nil {
			return "", midMessage(err)
		}
		s := string(b)
		_, _ = r.Discard(n) // they were peeked
		return s, nil
	}
	var b strings.Builder
	for b.Len() < n {
		rest := n - b.Len()
		if b.Len() == b.Cap() {
			b.Grow(min(rest, max(chunk, b.Len())))
		}
		part, err := r.Peek(min(rest, r.Size(), b.Cap()-b.Len()))
		if err != nil {
			return "", midMessage(err)
		}
		b.Write(part)
		_, _ = r.Discard(len(part))
	}
	return b.String(), nil
}

func midMessage(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decoder holds what the readers of one message share: the first error, after
// which everything reads as empty, and the budget of filter nodes.
type decoder struct {
	err   error
	nodes int
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrSyntax}, args...)...)
	}
}

// reader reads the elements in s one after another. What it returns are parts
// of s: nothing is copied.
type reader struct {
	d *decoder
	s string
}

// more reports whether there is another element.
func (r *reader) more() bool { return len(r.s) > 0 && r.d.err == nil }

// peek returns the tag of the next element, 0 if there is none.
func (r *reader) peek() Tag {
	if !r.more() {
		return 0
	}
	return Tag(r.s[0])
}

// next returns the next element.
func (r *reader) next() (Tag, string) {
	if r.d.err != nil {
		return 0, ""
	}
	tag, content, rest, ok := cut(r.s)
	if !ok {
		r.d.fail("broken element")
		r.s = ""
		return 0, ""
	}
	r.s = rest
	return tag, content
}

// cut splits the first element off s. Its length is definite and lies in s.
func cut(s string) (tag Tag, content, rest string, ok bool) {
	if len(s) < 2 || s[0]&0x1f == 0x1f {
		return 0, "", "", false
	}
	tag = Tag(s[0])
	length, size := uint64(s[1]), 2
	if s[1] >= 0x80 {
		size += int(s[1] & 0x7f)
		if size == 2 || size > 2+maxLengthOctets || size > len(s) {
			return 0, "", "", false
		}
		length = 0
		for i := 2; i < size; i++ {
			length = length<<8 | uint64(s[i])
		}
	}
	if length > uint64(len(s)-size) {
		return 0, "", "", false
	}
	end := size + int(length)
	return tag, s[size:end], s[end:], true
}

// octets returns the contents of the next element, which must have that tag.
func (r *reader) octets(tag Tag) string {
	got, content := r.next()
	if got != tag {
		r.d.fail("tag %#02x where %#02x belongs", byte(got), byte(tag))
		return ""
	}
	return content
}

// optional is octets of an element that may be missing.
func (r *reader) optional(tag Tag) (string, bool) {
	if r.peek() != tag {
		return "", false
	}
	return r.octets(tag), true
}

// group returns a reader of the elements within the next one.
func (r *reader) group(tag Tag) reader { return reader{r.d, r.octets(tag)} }

// count returns how many elements are left.
func (r *reader) count() int {
	n := 0
	for s := r.s; len(s) > 0; n++ {
		var ok bool
		if _, _, s, ok = cut(s); !ok {
			r.d.fail("broken element")
			return 0
		}
	}
	return n
}

// integer reads an INTEGER or ENUMERATED from 0 to most.
func (r *reader) integer(tag Tag, most int) int { return r.d.integer(r.octets(tag), most) }

// integer reads the contents of an integer from 0 to most.
func (d *decoder) integer(s string, most int) int {
	if len(s) == 0 || len(s) > 8 || s[0] >= 0x80 {
		d.fail("integer empty, too long or negative")
		return 0
	}
	v := uint64(0)
	for i := range len(s) {
		v = v<<8 | uint64(s[i])
	}
	if v > uint64(most) {
		d.fail("integer out of range")
		return 0
	}
	return int(v)
}

// boolean reads a BOOLEAN. RFC 4511 §5.1 wants TRUE as 0xff; any other octet
// but 0 is BER's TRUE.
func (r *reader) boolean(tag Tag) bool {
	s := r.octets(tag)
	if len(s) != 1 {
		r.d.fail("boolean of %d octets", len(s))
		return false
	}
	return s[0] != 0
}

// strings reads the OCTET STRINGs that are left.
func (r *reader) strings() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for r.more() {
		list = append(list, r.octets(tagOctetString))
	}
	return list
}

// begin opens an element whose length is not known yet; end closes it.
func begin(dst []byte, tag Tag) (out []byte, mark int) {
	dst = append(dst, byte(tag), 0)
	return dst, len(dst)
}

// end writes the length of the element that began at mark, and makes room if
// one octet is not enough.
func end(dst []byte, mark int) []byte {
	n := len(dst) - mark
	if n < 0x80 {
		dst[mark-1] = byte(n)
		return dst
	}
	extra := lengthOctets(n)
	dst = append(dst, make([]byte, extra)...)
	copy(dst[mark+extra:], dst[mark:mark+n])
	dst[mark-1] = 0x80 | byte(extra)
	for i := extra - 1; i >= 0; i-- {
		dst[mark+i] = byte(n)
		n >>= 8
	}
	return dst
}

func lengthOctets(n int) int {
	k := 1
	for n >>= 8; n > 0; n >>= 8 {
		k++
	}
	return k
}

func appendHeader(dst []byte, tag Tag, n int) []byte {
	if n < 0x80 {
		return append(dst, byte(tag), byte(n))
	}
	k := lengthOctets(n)
	dst = append(dst, byte(tag), 0x80|byte(k))
	for k--; k >= 0; k-- {
		dst = append(dst, byte(n>>(8*k)))
	}
	return dst
}

func appendOctets(dst []byte, tag Tag, s string) []byte {
	return append(appendHeader(dst, tag, len(s)), s...)
}

func appendStrings(dst []byte, list []string) []byte {
	for _, s := range list {
		dst = appendOctets(dst, tagOctetString, s)
	}
	return dst
}

func appendBoolean(dst []byte, tag Tag, v bool) []byte {
	if v {
		return append(dst, byte(tag), 1, 0xff)
	}
	return append(dst, byte(tag), 1, 0)
}

// appendInteger writes v, which is not negative, in as few octets as can be.
func appendInteger(dst []byte, tag Tag, v int) []byte {
	k := 1
	for v>>(8*k-1) > 0 {
		k++
	}
	dst = append(dst, byte(tag), byte(k))
	for k--; k >= 0; k-- {
		dst = append(dst, byte(v>>(8*k)))
	}
	return dst
}
