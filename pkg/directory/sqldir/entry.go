package sqldir

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
	"mailsrv/pkg/sqlite"
)

// stored is an entry as it lies in the database. It is shared by the caches and
// their readers, who must not change it.
type stored struct {
	id    int64
	path  string
	entry directory.Entry
	types []*schema.AttributeType // of entry.Attributes; nil: not defined any more
}

// path is the key of an entry: its normalised RDNs, root first, each ended by a
// NUL, which no RDN's text holds.
func (d *Dir) path(dn directory.DN) string {
	var b strings.Builder
	for _, rdn := range slices.Backward(dn.RDNs) {
		b.WriteString(d.schema.NormalRDN(rdn))
		b.WriteByte(0)
	}
	return b.String()
}

// get reads the entry at path; nil: there is none.
func (d *Dir) get(tx *sqlite.Tx, path string) (*stored, error) {
	s := &stored{path: path}
	var raw []byte
	found, err := tx.Get("SELECT id, content FROM entry WHERE path=?", []any{path}, &s.id, &raw)
	if err != nil || !found {
		return nil, err
	}
	return s, d.fill(s, raw)
}

// fill decodes the content of s.
func (d *Dir) fill(s *stored, raw []byte) error {
	var err error
	if s.entry, err = decode(raw); err != nil {
		return fmt.Errorf("reading entry %d: %w", s.id, err)
	}
	s.types = make([]*schema.AttributeType, len(s.entry.Attributes))
	for i, a := range s.entry.Attributes {
		s.types[i] = d.schema.Attribute(a.Name)
	}
	return nil
}

// contentVersion begins an encoded entry.
const contentVersion = 1

// encode writes an entry: its RDNs, then its attributes, all strings and lists
// with their length before them.
func encode(e directory.Entry) []byte {
	b := []byte{contentVersion}
	b = binary.AppendUvarint(b, uint64(len(e.DN.RDNs)))
	for _, rdn := range e.DN.RDNs {
		b = binary.AppendUvarint(b, uint64(len(rdn)))
		for _, av := range rdn {
			b = appendString(appendString(b, av.Name), av.Value)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(e.Attributes)))
	for _, a := range e.Attributes {
		b = appendString(b, a.Name)
		b = binary.AppendUvarint(b, uint64(len(a.Values)))
		for _, v := range a.Values {
			b = appendString(b, v)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errContent = errors.New("damaged content")

// decode reads what encode, or the first version of this package, has written.
func decode(b []byte) (e directory.Entry, err error) {
	if len(b) > 0 && b[0] == '{' {
		return decodeFirst(b)
	}
	if len(b) == 0 || b[0] != contentVersion {
		return e, errContent
	}
	r := content(b[1:]) // the one copy: strings are parts of it
	e.DN.RDNs = make([]directory.RDN, r.count(&err))
	for i := range e.DN.RDNs {
		e.DN.RDNs[i] = make(directory.RDN, r.count(&err))
		for j := range e.DN.RDNs[i] {
			e.DN.RDNs[i][j] = directory.AttributeValue{Name: r.text(&err), Value: r.text(&err)}
		}
	}
	e.Attributes = make([]directory.Attribute, r.count(&err))
	for i := range e.Attributes {
		a := &e.Attributes[i]
		a.Name = r.text(&err)
		a.Values = make([]string, r.count(&err))
		for j := range a.Values {
			a.Values[j] = r.text(&err)
		}
	}
	if r != "" {
		err = errContent
	}
	return e, err
}

func decodeFirst(b []byte) (directory.Entry, error) {
	var c struct {
		DN         string
		Attributes []directory.Attribute
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return directory.Entry{}, fmt.Errorf("%w: %w", errContent, err)
	}
	dn, err := directory.ParseDN(c.DN)
	return directory.Entry{DN: dn, Attributes: c.Attributes}, err
}

// content is what is left of an encoded entry.
type content string

func (c *content) count(err *error) int {
	n, shift := uint64(0), 0
	for i := 0; i < len(*c) && shift < 63; i++ {
		b := (*c)[i]
		n |= uint64(b&0x7f) << shift
		if shift += 7; b < 0x80 {
			*c = (*c)[i+1:]
			if n > uint64(len(*c)) { // each of n things takes a byte at least
				break
			}
			return int(n)
		}
	}
	*c, *err = "", errContent
	return 0
}

func (c *content) text(err *error) string {
	n := c.count(err)
	s := string((*c)[:n])
	*c = (*c)[n:]
	return s
}
