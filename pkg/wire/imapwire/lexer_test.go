package imapwire

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestLexerReadsEachKindOfArgument(t *testing.T) {
	str := func(read func(*Lexer) string) func(*Lexer) any { return func(l *Lexer) any { return read(l) } }
	atom, astring, text := str((*Lexer).Atom), str((*Lexer).AString), str((*Lexer).String)
	mailbox, pattern, flag := str((*Lexer).Mailbox), str((*Lexer).ListMailbox), str((*Lexer).Flag)
	number := func(l *Lexer) any { return l.Number() }
	number64 := func(l *Lexer) any { return l.Number64() }
	flags := func(l *Lexer) any { return l.FlagList() }
	set := func(l *Lexer) any { return l.NumSet() }
	date := func(l *Lexer) any { return l.Date().Format(time.DateOnly) }
	dateTime := func(l *Lexer) any { return l.DateTime().Format(time.RFC3339) }
	section := func(l *Lexer) any { return l.Section() }
	nstring := func(l *Lexer) any { s, ok := l.NString(); return fmt.Sprint(s, ok) }
	tests := []struct {
		in   string
		read func(*Lexer) any
		want any
		err  string
	}{
		{"abc", atom, "abc", ""},
		{"a]", atom, "a", "unexpected text at the end of the command"},
		{"", atom, "", "expected an atom"},
		{"a]b", astring, "a]b", ""},
		{`"a \"b\" \\"`, astring, `a "b" \`, ""},
		{`"a \n"`, astring, "", "bad escape in a quoted string"},
		{`"a`, astring, "", "quoted string without end"},
		{"\"gr\xfc\"", astring, "", "quoted string is not UTF-8"},
		{"{3}\r\na\"b", astring, `a"b`, ""},
		{"{9}\r\na\"b", astring, "", "bad literal"},
		{"{3+}\r\n\r\n)", text, "\r\n)", ""},
		{"abc", text, "", "expected a string"},
		{"NIL", nstring, "false", ""},
		{`"NIL"`, nstring, "NILtrue", ""},
		{"4294967295", number, uint32(4294967295), ""},
		{"4294967296", number, uint32(0), "number is too large"},
		{"99999999999999999999", number64, uint64(0), "number is too large"},
		{"-1", number, uint32(0), "expected a number"},
		{`(\Seen $Work)`, flags, []string{`\Seen`, "$Work"}, ""},
		{`()`, flags, []string(nil), ""},
		{`(\Seen  a)`, flags, []string{`\Seen`, ""}, "expected an atom"},
		{`(\Seen`, flags, []string{`\Seen`}, "expected a space"},
		{`\*`, flag, `\`, "expected an atom"},
		{"inBOX", mailbox, "INBOX", ""},
		{`"&ZeVnLIqe-/x"`, mailbox, "日本語/x", ""},
		{"日本語", mailbox, "日本語", ""},
		{"\xff", mailbox, "", "mailbox name is neither UTF-7 nor UTF-8"},
		{"a/%*]", pattern, "a/%*]", ""},
		{"1,3:5,7:*,*", set, NumSet{{1, 1}, {3, 5}, {7, Star}, {Star, Star}}, ""},
		{"1,", set, NumSet(nil), "expected a number"},
		{"0", set, NumSet(nil), "a message number is 1 to 4294967295, or *"},
		{"$", set, NumSet(nil), "expected a number"},
		{"1-Feb-2026", date, "2026-02-01", ""},
		{`"01-Feb-2026"`, date, "2026-02-01", ""},
		{"30-Feb-2026", date, "0001-01-01", "bad date"},
		{`" 1-Feb-2026 01:02:03 -0330"`, dateTime, "2026-02-01T01:02:03-03:30", ""},
		{`"11-Feb-2026 01:02:03 +0000"`, dateTime, "2026-02-11T01:02:03Z", ""},
		{`"1-Feb-2026 01:02:03 +0000"`, dateTime, "0001-01-01T00:00:00Z", "bad date-time"},
		{"[]", section, Section{}, ""},
		{"[1.23.mime]", section, Section{Path: []int{1, 23}, Part: PartMIME}, ""},
		{"[4.HEADER.FIELDS.NOT (To {2}\r\nCC)]", section, Section{Path: []int{4}, Part: PartHeaderFieldsNot, Fields: []string{"To", "CC"}}, ""},
		{"[HEADER.FIELDS ()]", section, Section{Part: PartHeaderFields}, "no header field named"},
		{"[1.0]", section, Section{Path: []int{1, 0}}, "bad part number"},
		{"[FOO]", section, Section{}, "unknown section"},
		{"[" + strings.Repeat("1.", 200) + "1]", section, nil, "bad part number"},
	}
	for _, tt := range tests {
		l := NewLexer([]byte(tt.in+"\r\n"), 3)
		got := tt.read(l)
		err := ""
		if l.End() != nil {
			err = l.Err().Error()
		}
		if err != tt.err {
			t.Errorf("%q: error %q, want %q", tt.in, err, tt.err)
		}
		if tt.want == nil {
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestLexerBoundsDepth(t *testing.T) {
	var nest func(l *Lexer)
	nest = func(l *Lexer) { l.List(func() { nest(l) }) }
	for depth, ok := range map[int]bool{3: true, 4: false, 10000: false} {
		l := NewLexer([]byte(strings.Repeat("(", depth)+strings.Repeat(")", depth)), 3)
		nest(l)
		if got := l.End() == nil; got != ok {
			t.Errorf("depth %d: %v", depth, l.Err())
		}
	}
}

func TestNumSetResolves(t *testing.T) {
	tests := []struct {
		in      string
		largest uint32
		want    NumSet
	}{
		{"5,1:3,2:4", 10, NumSet{{1, 5}}},
		{"*", 10, NumSet{{10, 10}}},
		{"*:8", 10, NumSet{{8, 10}}},
		{"20:*", 10, NumSet{{10, 20}}},
		{"1:*", 0, NumSet{}},
		{"1:4294967295,4294967295", 3, NumSet{{1, 4294967295}}},
		{"7,1", 10, NumSet{{1, 1}, {7, 7}}},
	}
	for _, tt := range tests {
		got := NewLexer([]byte(tt.in), 0).NumSet().Resolve(tt.largest)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s of %d:\n%s", tt.in, tt.largest, diff)
		}
	}
	if got := string(AppendNumSet(nil, []uint32{1, 2, 3, 7, 9, 10})); got != "1:3,7,9:10" {
		t.Error(got)
	}
}

func TestUTF7(t *testing.T) {
	tests := []struct{ coded, name string }{
		{"", ""}, {"INBOX", "INBOX"}, {"a&-b", "a&b"}, {"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"},
		{"&2D3eCw-", "😋"}, {"&AAo-", "\n"}, {"&-&AOk-", "&é"},
	}
	for _, tt := range tests {
		if got := string(AppendUTF7(nil, tt.name)); got != tt.coded {
			t.Errorf("AppendUTF7(%q) = %q, want %q", tt.name, got, tt.coded)
		}
		if got, err := DecodeUTF7(tt.coded); got != tt.name || err != nil {
			t.Errorf("DecodeUTF7(%q) = %q, %v", tt.coded, got, err)
		}
	}
	for _, bad := range []string{"&", "a&b", "&AGE-", "&AOk-&AOk-", "&A-", "&AOk", "&2D0-", "é", "&AOl/-", "\t", "&Jjo!"} {
		if got, err := DecodeUTF7(bad); err == nil {
			t.Errorf("DecodeUTF7(%q) = %q, want an error", bad, got)
		}
	}
}

func TestAppend(t *testing.T) {
	date := time.Date(1996, time.July, 7, 2, 44, 25, 0, time.FixedZone("", -(7*3600+1800)))
	tests := []struct{ got, want string }{
		{string(AppendString(nil, `a "b\`)), `"a \"b\\"`},
		{string(AppendString(nil, "a\r\nb")), "{4}\r\na\r\nb"},
		{string(AppendString(nil, "é")), "{2}\r\né"},
		{string(AppendNString(nil, "x", false)), "NIL"},
		{string(AppendAString(nil, "nil")), `"nil"`},
		{string(AppendAString(nil, "X-Foo]")), "X-Foo]"},
		{string(AppendAString(nil, "")), `""`},
		{string(AppendMailbox(nil, "Nil")), `"Nil"`},
		{string(AppendMailbox(nil, `Entwürfe "x"`)), `"Entw&APw-rfe \"x\""`},
		{string(AppendMailbox(nil, "a*")), `"a*"`},
		{string(AppendDateTime(nil, date)), `" 7-Jul-1996 02:44:25 -0730"`},
		{string(AppendDateTime(nil, date.AddDate(0, 0, 10).UTC())), `"17-Jul-1996 10:14:25 +0000"`},
		{string(Section{Path: []int{1, 2}, Part: PartHeaderFields, Fields: []string{"To", "X Y"}}.Append(nil)), `[1.2.HEADER.FIELDS (To "X Y")]`},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestParseResponse(t *testing.T) {
	tests := []struct {
		line string
		want Response
	}{
		{"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready", Response{Tag: "*", Name: "OK", Code: "CAPABILITY", CodeArgs: "IMAP4rev1 AUTH=PLAIN", Text: "ready"}},
		{"a1 no [AUTHENTICATIONFAILED] sorry", Response{Tag: "a1", Name: "NO", Code: "AUTHENTICATIONFAILED", Text: "sorry"}},
		{"* CAPABILITY IMAP4rev1 idle", Response{Tag: "*", Name: "CAPABILITY", Text: "IMAP4rev1 idle"}},
		{"* 3 EXISTS", Response{Tag: "*", Number: 3, Name: "EXISTS"}},
		{"+ abc=", Response{Tag: "+", Text: "abc="}},
		{"+", Response{Tag: "+"}},
		{"* BYE", Response{Tag: "*", Name: "BYE"}},
	}
	for _, tt := range tests {
		got, err := ParseResponse([]byte(tt.line))
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%q: %v\n%s", tt.line, err, diff)
		}
	}
	for _, bad := range []string{"", "a", "220 ready\x00", "* ", "* OK [x", "\x01 OK", "+a OK"} {
		if got, err := ParseResponse([]byte(bad)); err == nil && bad != "220 ready\x00" {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
	caps := Response{Name: "OK", Code: "CAPABILITY", CodeArgs: "IMAP4rev1 idle"}.Capabilities()
	if diff := cmp.Diff([]string{"IMAP4REV1", "IDLE"}, caps); diff != "" {
		t.Error(diff)
	}
}

func TestAppendLogin(t *testing.T) {
	tests := []struct {
		user, password string
		literalPlus    bool
		want           string
	}{
		{`a"b`, `p\w`, false, `t LOGIN "a\"b" "p\\w"` + "\r\n"},
		{"alice", "grün", true, "t LOGIN \"alice\" {5+}\r\ngrün\r\n"},
		{"alice", "grün", false, ""},
		{"alice\r\nx DELETE y", "p", true, ""},
		{"al\x00ice", "p", true, ""},
	}
	for _, tt := range tests {
		got, err := AppendLogin([]byte("x"), "t", tt.user, tt.password, tt.literalPlus)
		if string(got) != "x"+tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v", tt.user, got, err)
		}
	}
	if got := string(AppendAuthenticate(nil, "t", "PLAIN", []byte("\x00a\x00b"))); got != "t AUTHENTICATE PLAIN AGEAYg==\r\n" {
		t.Error(got)
	}
	if got := string(AppendAuthenticate(nil, "t", "EXTERNAL", []byte{})); got != "t AUTHENTICATE EXTERNAL =\r\n" {
		t.Error(got)
	}
	if got := string(AppendAuthenticate(nil, "t", "PLAIN", nil)) + string(AppendBase64Line(nil, []byte("\x00a\x00b"))); got != "t AUTHENTICATE PLAIN\r\nAGEAYg==\r\n" {
		t.Error(got)
	}
}

func FuzzLexer(f *testing.F) {
	for _, seed := range []string{`a "b" {1}` + "\r\nx", "(a (b) c)", "1:*,3", "[1.HEADER.FIELDS (a)]<0.5>", `"&AOk-" %*`, `" 1-Feb-2026 01:02:03 -0330"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		readers := []func(*Lexer){
			func(l *Lexer) { l.AString() }, func(l *Lexer) { l.NString() }, func(l *Lexer) { l.Mailbox() }, func(l *Lexer) { l.ListMailbox() },
			func(l *Lexer) { l.NumSet().Resolve(1000) }, func(l *Lexer) { l.FlagList() }, func(l *Lexer) { l.Section().Append(nil) },
			func(l *Lexer) { l.Partial() }, func(l *Lexer) { l.Date() }, func(l *Lexer) { l.DateTime() }, func(l *Lexer) { l.Number64() }, func(l *Lexer) { l.Keyword() },
		}
		for _, read := range readers {
			l := NewLexer([]byte(in), 5)
			for before := -1; l.Err() == nil && !l.AtEnd() && l.pos > before; l.Take(' ') {
				before = l.pos
				read(l)
			}
		}
	})
}

func FuzzUTF7(f *testing.F) {
	f.Add("~peter/mail/&U,BTFw-/&ZeVnLIqe-")
	f.Add("a&-b é")
	f.Fuzz(func(t *testing.T, in string) {
		if name, err := DecodeUTF7(in); err == nil && string(AppendUTF7(nil, name)) != in {
			t.Errorf("%q decodes to %q, which is spelled %q", in, name, AppendUTF7(nil, name))
		}
		coded := string(AppendUTF7(nil, in))
		if name, err := DecodeUTF7(coded); err != nil || utf8.ValidString(in) && name != in {
			t.Errorf("%q is spelled %q, which decodes to %q, %v", in, coded, name, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add("* OK [CAPABILITY IMAP4rev1] ready")
	f.Add("+ abc")
	f.Fuzz(func(t *testing.T, in string) {
		if r, err := ParseResponse([]byte(in)); err == nil {
			r.Capabilities()
		}
	})
}
