package ldapwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// messages has every operation, with its optional fields filled and not.
func messages() []Message {
	res := Result{Code: 32, MatchedDN: "o=isp", Text: "no such entry"}
	long := strings.Repeat("x", 70000)
	filter := Filter{Kind: And, Children: []Filter{
		{Kind: Equality, Attribute: "uid", Value: "alice"},
		{Kind: Or, Children: []Filter{{Kind: GreaterOrEqual, Attribute: "n", Value: "1"}, {Kind: LessOrEqual, Attribute: "n", Value: "2"}}},
		{Kind: Not, Children: []Filter{{Kind: Present, Attribute: "mail"}}},
		{Kind: Substrings, Attribute: "cn", Initial: "a", Any: []string{"b", "c"}, Final: "d"},
		{Kind: Substrings, Attribute: "cn", Any: []string{"*("}},
		{Kind: Approx, Attribute: "sn", Value: "smit"},
		{Kind: Extensible, Attribute: "cn", Rule: "2.5.13.2", Value: "x", DNAttributes: true},
		{Kind: Extensible, Rule: "caseIgnoreMatch", Value: "\x00"},
		{Kind: And},
	}}
	return []Message{
		{ID: 1, Op: &BindRequest{Version: 3, Name: "cn=admin", Auth: AuthSimple, Password: "s"}},
		{ID: 2, Op: &BindRequest{Version: 3, Auth: AuthSASL, Mechanism: "EXTERNAL"}},
		{ID: 3, Op: &BindRequest{Version: 3, Auth: AuthSASL, Mechanism: "PLAIN", HasCredentials: true}},
		{ID: 3, Op: &BindRequest{Version: 2, Auth: 0x81, Password: "krb"}},
		{ID: 4, Op: &BindResponse{Result: res, ServerCredentials: "c", HasServerCredentials: true}},
		{ID: 5, Op: &UnbindRequest{}},
		{ID: 6, Op: &SearchRequest{Base: "o=isp", Scope: 2, DerefAliases: 3, SizeLimit: 500, TimeLimit: 5, TypesOnly: true,
			Filter: filter, Attributes: []string{"*", "+"}}},
		{ID: 7, Op: &SearchEntry{DN: "uid=a", Attributes: []Attribute{{Name: "cn", Values: []string{"A", ""}}, {Name: "jpegPhoto", Values: []string{long}}, {Name: "sn"}}}},
		{ID: 8, Op: &SearchReference{URIs: []string{"ldap://x/"}}},
		{ID: 9, Op: &Done{Kind: TagSearchDone, Result: Result{Code: 10, Referral: []string{"ldap://x/", "ldap://y/"}}},
			Controls: []Control{Paged{Size: 1000, Cookie: "next"}.Control(true), {OID: "1.2.3"}}},
		{ID: 10, Op: &ModifyRequest{DN: "uid=a", Changes: []Change{
			{Kind: 0, Attribute: Attribute{Name: "mail", Values: []string{"a@x", "b@x"}}}, {Kind: 1, Attribute: Attribute{Name: "sn"}}, {Kind: 3, Attribute: Attribute{Name: "n", Values: []string{"1"}}}}}},
		{ID: 11, Op: &Done{Kind: TagModifyResponse, Result: res}},
		{ID: 12, Op: &AddRequest{DN: "uid=a", Attributes: []Attribute{{Name: "cn", Values: []string{"A"}}}}},
		{ID: 13, Op: &Done{Kind: TagAddResponse, Result: res}},
		{ID: 14, Op: &DelRequest{DN: "uid=a"}},
		{ID: 15, Op: &Done{Kind: TagDelResponse, Result: res}},
		{ID: 16, Op: &ModifyDNRequest{DN: "uid=a", NewRDN: "uid=b", DeleteOldRDN: true, NewSuperior: "", HasNewSuperior: true}},
		{ID: 17, Op: &Done{Kind: TagModifyDNResponse, Result: res}},
		{ID: 18, Op: &CompareRequest{DN: "uid=a", Attribute: "cn", Value: "A"}},
		{ID: 19, Op: &Done{Kind: TagCompareResponse, Result: Result{Code: 6}}},
		{ID: 127, Op: &AbandonRequest{ID: 128}},
		{ID: 128, Op: &ExtendedRequest{OID: OIDStartTLS}},
		{ID: 255, Op: &ExtendedRequest{OID: OIDPasswordModify, Value: "0", HasValue: true}},
		{ID: 256, Op: &ExtendedResponse{Result: res, OID: OIDStartTLS, HasValue: true}},
		{ID: 0, Op: &ExtendedResponse{Result: Result{Code: 52}, OID: OIDDisconnection}},
		{ID: MaxMessageID, Op: &IntermediateResponse{OID: "1.2", Value: "v", HasValue: true}},
		{ID: 32768, Op: &IntermediateResponse{}},
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	var stream []byte
	for _, want := range messages() {
		pdu := AppendMessage(nil, want)
		got, err := Decode(string(pdu))
		if err != nil {
			t.Fatalf("decoding %T: %v", want.Op, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", want.Op, diff)
		}
		if got.Op.Tag() != want.Op.Tag() {
			t.Errorf("%T has tag %#x", got.Op, got.Op.Tag())
		}
		stream = append(stream, pdu...)
	}
	// The same as one stream that comes a byte at a time.
	r := bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), 64)
	for _, want := range messages() {
		pdu, err := ReadPDU(r, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(pdu); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T out of a stream: %v", want.Op, err)
		}
	}
	if _, err := ReadPDU(r, 1<<20); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestAppendEntryEqualsMessage(t *testing.T) {
	attrs := map[string][]string{"mail": {"a@x", strings.Repeat("b", 300)}}
	want := AppendMessage(nil, Message{ID: 9, Op: &SearchEntry{DN: "uid=a", Attributes: []Attribute{{Name: "mail", Values: attrs["mail"]}}}})
	if got := AppendEntry(nil, 9, "uid=a", maps.All(attrs)); !bytes.Equal(want, got) {
		t.Errorf("AppendEntry wrote %x, AppendMessage %x", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	search := func(filter string) string {
		body := "\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00" + filter + "\x30\x00"
		op := string(appendOctets(nil, TagSearchRequest, body))
		return string(appendOctets(nil, tagSequence, "\x02\x01\x01"+op))
	}
	for _, test := range []struct{ name, pdu string }{
		{"empty", ""},
		{"one byte", "\x30"},
		{"no sequence", "\x31\x05\x02\x01\x01\x42\x00"},
		{"indefinite length", "\x30\x80\x02\x01\x01\x42\x00\x00\x00"},
		{"length beyond the end", "\x30\x06\x02\x01\x01\x42\x00"},
		{"trailing bytes", "\x30\x05\x02\x01\x01\x42\x00\x00"},
		{"negative id", "\x30\x05\x02\x01\xff\x42\x00"},
		{"id of no octets", "\x30\x04\x02\x00\x42\x00"},
		{"id too large", "\x30\x09\x02\x05\x00\x80\x00\x00\x00\x42\x00"},
		{"id of nine octets", "\x30\x0d\x02\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x42\x00"},
		{"unknown operation", "\x30\x05\x02\x01\x01\x5e\x00"},
		{"high tag number", "\x30\x05\x02\x01\x01\x1f\x00"},
		{"operation too long", "\x30\x05\x02\x01\x01\x4a\x01"},
		{"inner length of 2 GiB", "\x30\x09\x02\x01\x01\x4a\x84\x7f\xff\xff\xff"},
		{"inner length that wraps", "\x30\x0d\x02\x01\x01\x4a\x88\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"empty not", search("\xa2\x00")},
		{"not of two", search("\xa2\x06\x87\x01a\x87\x01b")},
		{"filter tag of class universal", search("\x04\x01a")},
		{"filter kind 10", search("\xaa\x00")},
		{"present constructed", search("\xa7\x03\x04\x01a")},
		{"equality without value", search("\xa3\x03\x04\x01a")},
		{"no substrings", search("\xa4\x05\x04\x01a\x30\x00")},
		{"empty substring", search("\xa4\x07\x04\x01a\x30\x02\x81\x00")},
		{"two finals", search("\xa4\x0b\x04\x01a\x30\x06\x82\x01x\x82\x01y")},
		{"initial behind any", search("\xa4\x0b\x04\x01a\x30\x06\x81\x01x\x80\x01y")},
		{"extensible of nothing", search("\xa9\x03\x83\x01x")},
	} {
		if m, err := Decode(test.pdu); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v, %+v", test.name, err, m.Op)
		}
	}
}

func TestDecodeBoundsFilters(t *testing.T) {
	nest := func(n int) Filter {
		f := Filter{Kind: Present, Attribute: "a"}
		for range n - 1 {
			f = Filter{Kind: Not, Children: []Filter{f}}
		}
		return f
	}
	wide := func(n int) Filter {
		return Filter{Kind: Or, Children: make([]Filter, n-1)}
	}
	for _, test := range []struct {
		name string
		f    Filter
		want error
	}{
		{"deepest", nest(MaxFilterDepth), nil},
		{"too deep", nest(MaxFilterDepth + 1), ErrTooComplex},
		{"widest", wide(MaxFilterNodes), nil},
		{"too wide", wide(MaxFilterNodes + 1), ErrTooComplex},
	} {
		m, err := Decode(string(AppendMessage(nil, Message{ID: 7, Op: &SearchRequest{Filter: test.f}})))
		if !errors.Is(err, test.want) || m.ID != 7 || m.Op.Tag() != TagSearchRequest {
			t.Errorf("%s: %v, id %d", test.name, err, m.ID)
		}
	}
}

func TestLenientWhereRealPeersAre(t *testing.T) {
	for _, test := range []struct {
		name, pdu string
		want      Message
	}{
		{"length padded with zeros", "\x30\x84\x00\x00\x00\x05\x02\x01\x01\x42\x00", Message{ID: 1, Op: &UnbindRequest{}}},
		{"integer padded with zeros", "\x30\x08\x02\x04\x00\x00\x00\x01\x42\x00", Message{ID: 1, Op: &UnbindRequest{}}},
		{"unknown field behind the known", "\x30\x0c\x02\x01\x01\x77\x07\x80\x011\x8f\x02zz", Message{ID: 1, Op: &ExtendedRequest{OID: "1"}}},
	} {
		got, err := Decode(test.pdu)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestReadPDURefuses(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     error
	}{
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", ErrSyntax},
		{"indefinite", "\x30\x80\x30\x80", ErrSyntax},
		{"length of nine octets", "\x30\x89\x00\x00\x00\x00\x00\x00\x00\x00\x01a", ErrSyntax},
		{"2 GiB", "\x30\x84\x7f\xff\xff\xff", ErrTooLarge},
		{"all ones", "\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff", ErrTooLarge},
		{"one over", "\x30\x82\x04\x01", ErrTooLarge},
		{"cut in the header", "\x30", io.ErrUnexpectedEOF},
		{"cut in the length", "\x30\x82\x01", io.ErrUnexpectedEOF},
		{"cut in the contents", "\x30\x05\x02\x01", io.ErrUnexpectedEOF},
		{"cut in large contents", "\x30\x82\x04\x00" + strings.Repeat("x", 100), io.ErrUnexpectedEOF},
	} {
		r := bufio.NewReaderSize(strings.NewReader(test.in), 64)
		if _, err := ReadPDU(r, 1024); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestFilterString(t *testing.T) {
	f := messages()[6].Op.(*SearchRequest).Filter
	want := `(&(uid=alice)(|(n>=1)(n<=2))(!(mail=*))(cn=a*b*c*d)(cn=*\2a\28*)(sn~=smit)(cn:dn:2.5.13.2:=x)(:caseIgnoreMatch:=\00)(&))`
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Error(diff)
	}
}

func TestPasswordModify(t *testing.T) {
	for _, want := range []PasswordModify{{}, {User: "uid=a", Old: "o", New: "n"}, {New: "n"}} {
		got, err := DecodePasswordModify(string(want.Append(nil)))
		if err != nil || got != want {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "\x30\x02\x83\x00", "\x30\x04\x81\x00\x80\x00", "\x30\x80"} {
		if _, err := DecodePasswordModify(bad); !errors.Is(err, ErrSyntax) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// TestHostile measures what a stranger's worst bytes cost: each input is up to
// 1 MB, and neither allocation nor work may multiply it by more than a little.
func TestHostile(t *testing.T) {
	const size = 1 << 20
	inOp := func(tag Tag, body string) string {
		op := appendOctets([]byte("\x02\x01\x01"), tag, body)
		return string(appendOctets(nil, tagSequence, string(op)))
	}
	nested := "\x87\x01a"
	for len(nested) < 100<<10 { // some 20,000 levels
		nested = string(appendOctets(nil, 0xa2, nested))
	}
	fields := "\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00"
	for name, pdu := range map[string]string{
		"30 80 30 80":      strings.Repeat("\x30\x80", size/2),
		"30 84 claims":     strings.Repeat("\x30\x84\x7f\xff\xff\xff", size/6),
		"nested sequences": inOp(TagAddRequest, strings.Repeat("\x30\x83\x0f\xff\xff", size/5)),
		"deep filter":      inOp(TagSearchRequest, fields+nested),
		"wide filter":      inOp(TagSearchRequest, fields+string(appendOctets(nil, 0xa1, strings.Repeat("\x87\x00", size/2)))),
		"wide substrings":  inOp(TagSearchRequest, fields+string(appendOctets(nil, 0xa4, "\x04\x01a"+string(appendOctets(nil, 0x30, strings.Repeat("\x81\x01a", size/3)))))),
		"empty values":     inOp(TagAddRequest, "\x04\x00"+string(appendOctets(nil, 0x30, string(appendOctets(nil, 0x30, "\x04\x01a"+string(appendOctets(nil, 0x31, strings.Repeat("\x04\x00", size/2)))))))),
		"empty attributes": inOp(TagAddRequest, "\x04\x00"+string(appendOctets(nil, 0x30, strings.Repeat("\x30\x04\x04\x00\x31\x00", size/6)))),
		"controls":         string(appendOctets(nil, 0x30, "\x02\x01\x01\x42\x00"+string(appendOctets(nil, 0xa0, strings.Repeat("\x30\x02\x04\x00", size/4))))),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		if s, err := ReadPDU(bufio.NewReaderSize(strings.NewReader(pdu), 4096), 1<<21); err == nil {
			_, _ = Decode(s)
		}
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		got := after.TotalAlloc - before.TotalAlloc
		t.Logf("%-16s %5d KB in, %6d KB allocated, %v", name, len(pdu)>>10, got>>10, took)
		if got > 16*size || took > time.Second {
			t.Errorf("%s: %d bytes allocated and %v spent on %d", name, got, took, len(pdu))
		}
	}
}
