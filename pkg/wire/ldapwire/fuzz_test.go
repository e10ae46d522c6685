package ldapwire

import (
	"bufio"
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// FuzzDecode: whatever is decoded means the same after it was encoded again.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		f.Add(AppendMessage(nil, m))
	}
	f.Add([]byte(strings.Repeat("\x30\x80", 100)))
	f.Add([]byte("\x30\x84\x7f\xff\xff\xff\x02"))
	f.Fuzz(func(t *testing.T, pdu []byte) {
		m, err := Decode(string(pdu))
		if err != nil {
			return
		}
		again, err := Decode(string(AppendMessage(nil, m)))
		if err != nil {
			t.Fatalf("%#v does not decode again: %v", m.Op, err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("%#v came back as %#v", m, again)
		}
		if s, ok := m.Op.(*SearchRequest); ok {
			_ = s.Filter.String()
		}
	})
}

// FuzzReadPDU: what is read is a prefix of what came, within the limit, and
// ends where BER says.
func FuzzReadPDU(f *testing.F) {
	for _, m := range messages() {
		f.Add(AppendMessage(nil, m), 1000)
	}
	f.Add([]byte("\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff"), 1<<20)
	f.Add([]byte("GET / HTTP/1.1\r\n"), 64<<10)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		if limit < 0 || limit > 1<<20 {
			return
		}
		r := bufio.NewReaderSize(bytes.NewReader(in), 16)
		pdu, err := ReadPDU(r, limit)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(in, []byte(pdu)) || len(pdu) > limit+2+maxLengthOctets {
			t.Fatalf("read %d bytes of %d under a limit of %d", len(pdu), len(in), limit)
		}
		if _, _, rest, ok := cut(pdu); !ok || rest != "" {
			t.Fatalf("%x is not one element", pdu)
		}
	})
}

func FuzzExtensions(f *testing.F) {
	f.Add(string(PasswordModify{User: "u", Old: "o", New: "n"}.Append(nil)))
	f.Add(Paged{Size: 10, Cookie: "c"}.Control(false).Value)
	f.Fuzz(func(t *testing.T, value string) {
		if p, err := DecodePaged(value); err == nil {
			if again, err := DecodePaged(p.Control(true).Value); err != nil || again != p {
				t.Fatalf("%+v came back as %+v, %v", p, again, err)
			}
		}
		if p, err := DecodePasswordModify(value); err == nil {
			if again, err := DecodePasswordModify(string(p.Append(nil))); err != nil || again != p {
				t.Fatalf("%+v came back as %+v, %v", p, again, err)
			}
		}
	})
}

func BenchmarkDecodeSearch(b *testing.B) {
	pdu := string(AppendMessage(nil, Message{ID: 6, Op: &SearchRequest{Base: "o=isp", Scope: 2,
		Filter: Filter{Kind: Equality, Attribute: "uid", Value: "alice"}, Attributes: []string{"mail", "cn"}}}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(pdu); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEntry(b *testing.B) {
	attrs := func(yield func(string, []string) bool) {
		_ = yield("mail", []string{"alice@example.com"}) && yield("cn", []string{"Alice"}) && yield("objectClass", []string{"top", "inetOrgPerson", "inetMailUser"})
	}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = AppendEntry(buf[:0], 6, "uid=alice,ou=People,o=example.com,o=isp", attrs)
	}
}
