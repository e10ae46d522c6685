package smtpwire

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
)

const trace = "0123456789abcdefghjkmnpqrs"

var everything = Offer{Auth: []string{"PLAIN"}, DSN: true, Trace: true, Deliver: true}

func TestParseMail(t *testing.T) {
	from := mail.Address{Local: "a", Domain: "b.test"}
	tests := []struct {
		arg  string
		want Mail
		err  string
	}{
		{arg: "FROM:<>", want: Mail{}},
		{arg: "from:<a@b.test>", want: Mail{From: from}},
		{arg: "FROM: <a@b.test>", want: Mail{From: from}},
		{arg: "FROM:<@x.test:a@b.test> size=007", want: Mail{From: from, Size: 7}},
		{arg: "FROM:<a@b.test> SIZE=18446744073709551616", want: Mail{From: from, Size: math.MaxInt64}},
		{arg: "FROM:<a@b.test>  BODY=8bitmime  SMTPUTF8", want: Mail{From: from, EightBit: true, SMTPUTF8: true}},
		{arg: "FROM:<ü@b.test> SMTPUTF8 BODY=7BIT", want: Mail{From: mail.Address{Local: "ü", Domain: "b.test"}, SMTPUTF8: true}},
		{arg: "FROM:<a@b.test> AUTH=<>", want: Mail{From: from}},
		{arg: "FROM:<a@b.test> AUTH=e+3Dmc2@x.test", want: Mail{From: from}},
		{arg: "FROM:<a@b.test> RET=hdrs ENVID=QQ+2B314", want: Mail{From: from, Ret: "HDRS", EnvID: "QQ+314"}},
		{arg: "FROM:<a@b.test> XTRACE=" + trace, want: Mail{From: from, Trace: trace}},
		{arg: "<a@b.test>", err: "501 5.5.4"},
		{arg: "FROM:a@b.test", err: "501 5.1.7"},
		{arg: "FROM:<postmaster>", err: "501 5.1.7"},
		{arg: "FROM:<a@b.test", err: "501 5.1.7"},
		{arg: "FROM:<a@b.test>x", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test>SIZE=1", err: "501 5.5.4"},
		{arg: "FROM:<ü@b.test>", err: "553 5.6.7"},
		{arg: "FROM:<a@münchen.test>", err: "553 5.6.7"},
		{arg: "FROM:<a@b.test> SIZE=", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> SIZE=-1", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> SIZE=+1", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> SIZE=1 SIZE=2", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> BODY=BINARYMIME", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> SMTPUTF8=yes", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> ENVID=+4", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> ENVID=+0D+0A", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> XTRACE=short", err: "501 5.5.4"},
		{arg: "FROM:<a@b.test> FOO=bar", err: "555 5.5.4"},
		{arg: "FROM:<a@b.test> =x", err: "501 5.5.4"},
	}
	for _, tt := range tests {
		t.Run(tt.arg, func(t *testing.T) {
			got, st := ParseMail(tt.arg, everything)
			checkStatus(t, st, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, arg := range []string{"RET=FULL", "ENVID=x", "XTRACE=" + trace, "AUTH=<>"} {
		if _, st := ParseMail("FROM:<> "+arg, Offer{}); st != errParam {
			t.Errorf("%s was not offered, and got %v", arg, st)
		}
	}
}

func checkStatus(t *testing.T, st *mail.Status, want string) {
	t.Helper()
	got := ""
	if st != nil {
		got = st.Reply()
	}
	if !strings.HasPrefix(got, want) || (want == "") != (got == "") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRcpt(t *testing.T) {
	to := mail.Address{Local: "a", Domain: "b.test"}
	tests := []struct {
		arg  string
		want mail.Recipient
		err  string
	}{
		{arg: "TO:<a@b.test>", want: mail.Recipient{Address: to}},
		{arg: "to: <POSTMASTER>", want: mail.Recipient{Address: mail.Address{Local: "POSTMASTER"}}},
		{arg: "TO:<a@b.test> NOTIFY=never ORCPT=rfc822;Bob+40x.test", want: mail.Recipient{Address: to, Notify: "NEVER", ORCPT: "rfc822;Bob@x.test"}},
		{arg: "TO:<a@b.test> NOTIFY=SUCCESS,DELAY,FAILURE", want: mail.Recipient{Address: to, Notify: "SUCCESS,DELAY,FAILURE"}},
		{arg: `TO:<a@b.test> XMAILBOX=Gr+C3+B6+C3+9Fe/Sent+20more XFLAGS=\Seen+20$x XSENTCOPY`,
			want: mail.Recipient{Address: to, Mailbox: "Größe/Sent more", Flags: []string{`\Seen`, "$x"}, SentCopy: true}},
		{arg: "TO:<>", err: "501 5.1.3"},
		{arg: "TO:a@b.test", err: "501 5.1.3"},
		{arg: "FROM:<a@b.test>", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> NOTIFY=NEVER,SUCCESS", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> NOTIFY=SUCCESS,SUCCESS", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> NOTIFY=", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> ORCPT=x", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> XMAILBOX=+00", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> XMAILBOX=+FF", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> XMAILBOX", err: "501 5.5.4"},
		{arg: "TO:<a@b.test> XSENTCOPY=1", err: "501 5.5.4"},
		{arg: "TO:<ü@b.test>", err: "553 5.6.7"},
	}
	for _, tt := range tests {
		t.Run(tt.arg, func(t *testing.T) {
			got, st := ParseRcpt(tt.arg, false, everything)
			checkStatus(t, st, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, arg := range []string{"NOTIFY=NEVER", "ORCPT=rfc822;x", "XMAILBOX=x", "XFLAGS=x", "XSENTCOPY"} {
		if _, st := ParseRcpt("TO:<a@b.test> "+arg, false, Offer{}); st != errParam {
			t.Errorf("%s was not offered, and got %v", arg, st)
		}
	}
}

var allExtensions = Extensions{ExtSize: "", ExtEightBit: "", ExtUTF8: "", ExtDSN: "", ExtTrace: "", ExtDeliver: ""}

// TestRequestsAreParsedBack: what the client writes is what the server reads,
// and an address can never become a parameter (S11).
func TestRequestsAreParsedBack(t *testing.T) {
	env := mail.Envelope{From: mail.Address{Local: `a> SIZE=1 "\`, Domain: "x.test"}, Trace: trace, SMTPUTF8: true, EightBit: true, Ret: "FULL", EnvID: "a+b=c d"}
	line := string(AppendMail(nil, env, 77, allExtensions))
	arg, _ := strings.CutPrefix(strings.TrimSuffix(line, "\r\n"), "MAIL ")
	got, st := ParseMail(arg, everything)
	want := Mail{From: env.From, Size: 77, SMTPUTF8: true, EightBit: true, Ret: "FULL", EnvID: env.EnvID, Trace: trace}
	if diff := cmp.Diff(want, got); diff != "" || st != nil {
		t.Errorf("%s: %v\n%s", line, st, diff)
	}
	r := mail.Recipient{Address: env.From, Mailbox: "a + ü/b", Flags: []string{`\Seen`, "$x"}, SentCopy: true, Notify: "NEVER", ORCPT: "rfc822;x y@z"}
	line = string(AppendRcpt(nil, r, allExtensions))
	arg, _ = strings.CutPrefix(strings.TrimSuffix(line, "\r\n"), "RCPT ")
	back, st := ParseRcpt(arg, false, everything)
	if diff := cmp.Diff(r, back); diff != "" || st != nil {
		t.Errorf("%s: %v\n%s", line, st, diff)
	}
	if got, want := string(AppendMail(nil, env, 77, nil)), `MAIL FROM:<"a> SIZE=1 \"\\"@x.test>`+"\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParseMail(f *testing.F) {
	f.Add("FROM:<a@b.test> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=+41 XTRACE=" + trace)
	f.Add(`FROM:<"a> \" b"@[IPv6:::1]>`)
	f.Add("FROM:<@a,@b:c@d>")
	f.Fuzz(func(t *testing.T, arg string) {
		if _, st := ParseCommand([]byte("MAIL " + arg)); st != nil {
			t.Skip()
		}
		m, st := ParseMail(arg, everything)
		if st != nil {
			return
		}
		env := mail.Envelope{From: m.From, Trace: m.Trace, SMTPUTF8: m.SMTPUTF8, EightBit: m.EightBit, Ret: m.Ret, EnvID: m.EnvID}
		line := string(AppendMail(nil, env, m.Size, allExtensions))
		if n := strings.Count(line, "\n") + strings.Count(line, "\r"); n != 2 {
			t.Fatalf("%q is not one line", line)
		}
		back, st := ParseMail(strings.TrimSuffix(strings.TrimPrefix(line, "MAIL "), "\r\n"), everything)
		if m.SMTPUTF8 = m.SMTPUTF8 || !m.From.IsASCII(); st != nil || back != m {
			t.Fatalf("%q came back from %q as %+v, %v; want %+v", arg, line, back, st, m)
		}
	})
}

func FuzzParseRcpt(f *testing.F) {
	f.Add(`TO:<a@b.test> NOTIFY=NEVER ORCPT=rfc822;x XMAILBOX=+C3+BC XFLAGS=\Seen+20$x XSENTCOPY`)
	f.Add("TO:<postmaster>")
	f.Fuzz(func(t *testing.T, arg string) {
		if _, st := ParseCommand([]byte("RCPT " + arg)); st != nil {
			t.Skip()
		}
		r, st := ParseRcpt(arg, true, everything)
		if st != nil {
			return
		}
		line := string(AppendRcpt(nil, r, allExtensions))
		if n := strings.Count(line, "\n") + strings.Count(line, "\r"); n != 2 {
			t.Fatalf("%q is not one line", line)
		}
		back, st := ParseRcpt(strings.TrimSuffix(strings.TrimPrefix(line, "RCPT "), "\r\n"), true, everything)
		if diff := cmp.Diff(r, back); st != nil || diff != "" && len(r.Flags) > 0 {
			t.Fatalf("%q came back from %q: %v\n%s", arg, line, st, diff)
		}
	})
}

func FuzzXtext(f *testing.F) {
	f.Add("a+2Bb")
	f.Add("ü =")
	f.Fuzz(func(t *testing.T, s string) {
		enc := string(AppendXtext(nil, s))
		if strings.ContainsAny(enc, " =\r\n\x00") {
			t.Fatalf("%q is not xtext", enc)
		}
		if back, err := DecodeXtext(enc); err != nil || back != s {
			t.Fatalf("%q came back as %q, %v", s, back, err)
		}
		_, _ = DecodeXtext(s)
	})
}
