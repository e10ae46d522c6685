package smtpwire

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"mailsrv/pkg/mail"
)

// Mail is what a MAIL command says.
type Mail struct {
	From mail.Address
	// Size is the declared size in bytes, 0 if none was; a size that no int64
	// holds is MaxInt64.
	Size     int64
	SMTPUTF8 bool
	EightBit bool
	// Binary is BODY=BINARYMIME (RFC 3030): lines mean nothing in the body.
	Binary bool
	// RequireTLS is RFC 8689.
	RequireTLS bool
	// Ret is FULL, HDRS or empty; EnvID is xtext-decoded (RFC 3461 §4.3, §4.4).
	Ret, EnvID string
	// Trace came with our own XTRACE; empty: none did.
	Trace mail.TraceID
}

// Offer is what a server announces beside the extensions that every server of
// ours has, and so what it understands in MAIL and RCPT.
type Offer struct {
	// Auth lists the SASL mechanisms; empty: AUTH is not announced.
	Auth []string
	// DSN is RFC 3461; Trace is XTRACE, Deliver is XDELIVER, History is XHISTORY.
	DSN, Trace, Deliver, History bool
	// Chunking is BDAT, with BINARYMIME (RFC 3030); ETRN is RFC 1985 and wants a
	// Handler that is a Starter; RequireTLS is RFC 8689, announced under TLS alone.
	Chunking, ETRN, RequireTLS bool
}

var (
	errParam     = status(555, 5, 4, "parameter not recognized or not implemented")
	errBadParam  = status(501, 5, 4, "bad parameter value")
	errTwice     = status(501, 5, 4, "parameter given twice")
	errNeedsUTF8 = status(553, 6, 7, "address needs SMTPUTF8")
)

// ParseMail reads the argument of MAIL: "FROM:<path> parameters".
func ParseMail(arg string, o Offer) (Mail, *mail.Status) {
	path, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		return Mail{}, status(501, 5, 4, "syntax is MAIL FROM:<address>")
	}
	path = strings.TrimLeft(path, " ")
	from, rest, err := mail.ParsePath(path)
	if err != nil || from.Domain == "" && !from.IsNull() {
		return Mail{}, &mail.Status{Code: 501, Enhanced: [3]int{5, 1, 7}, Text: "malformed reverse-path", Err: err}
	}
	m := Mail{From: from}
	if st := eachParam(rest, func(key, value string) *mail.Status { return m.set(key, value, o) }); st != nil {
		return Mail{}, st
	}
	if !m.SMTPUTF8 && !isASCII(path) {
		return Mail{}, errNeedsUTF8
	}
	return m, nil
}

func (m *Mail) set(key, value string, o Offer) *mail.Status {
	switch {
	case key == "SIZE":
		return m.setSize(value)
	case key == "BODY":
		m.Binary = strings.EqualFold(value, "BINARYMIME") && o.Chunking
		m.EightBit = strings.EqualFold(value, "8BITMIME") || m.Binary
		if !m.EightBit && !strings.EqualFold(value, "7BIT") {
			return errBadParam
		}
	case key == "REQUIRETLS" && o.RequireTLS:
		if value != "" {
			return errBadParam
		}
		m.RequireTLS = true
	case key == "SMTPUTF8":
		if value != "" {
			return errBadParam
		}
		m.SMTPUTF8 = true
	case key == "AUTH" && len(o.Auth) > 0:
		// RFC 4954 §5: it must be understood; we trust it from nobody.
		if _, err := DecodeXtext(value); err != nil || value == "" {
			return errBadParam
		}
	case key == "RET" && o.DSN:
		m.Ret = strings.ToUpper(value)
		if m.Ret != "FULL" && m.Ret != "HDRS" {
			return errBadParam
		}
	case key == "ENVID" && o.DSN:
		id, err := DecodeXtext(value)
		if err != nil || !isPrintable(id) || len(value) > 100 { // RFC 3461 §4.4
			return errBadParam
		}
		m.EnvID = id
	case key == "XTRACE" && o.Trace:
		t, ok := mail.ParseTraceID(value)
		if !ok {
			return errBadParam
		}
		m.Trace = t
	default:
		return errParam
	}
	return nil
}

func (m *Mail) setSize(value string) *mail.Status {
	if value == "" || len(value) > 20 || strings.Trim(value, "0123456789") != "" { // RFC 1870 §4
		return errBadParam
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	m.Size = n
	return nil
}

// ParseRcpt reads the argument of RCPT: "TO:<path> parameters". utf8 says that
// MAIL had SMTPUTF8. The address of <postmaster> has no domain.
func ParseRcpt(arg string, utf8 bool, o Offer) (mail.Recipient, *mail.Status) {
	path, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		return mail.Recipient{}, status(501, 5, 4, "syntax is RCPT TO:<address>")
	}
	path = strings.TrimLeft(path, " ")
	to, rest, err := mail.ParsePath(path)
	if err != nil || to.IsNull() {
		return mail.Recipient{}, &mail.Status{Code: 501, Enhanced: [3]int{5, 1, 3}, Text: "malformed forward-path", Err: err}
	}
	if !utf8 && !isASCII(path) {
		return mail.Recipient{}, errNeedsUTF8
	}
	r := mail.Recipient{Address: to}
	st := eachParam(rest, func(key, value string) *mail.Status { return setRcpt(&r, key, value, o) })
	if st != nil {
		return mail.Recipient{}, st
	}
	return r, nil
}

func setRcpt(r *mail.Recipient, key, value string, o Offer) *mail.Status {
	var text string
	if key == "ORCPT" || key == "XMAILBOX" || key == "XFLAGS" {
		var err error
		if text, err = DecodeXtext(value); err != nil || !isPrintable(text) || text == "" {
			return errBadParam
		}
	}
	switch {
	case key == "NOTIFY" && o.DSN:
		return setNotify(r, value)
	case key == "ORCPT" && o.DSN:
		kind, addr, _ := strings.Cut(text, ";")
		if kind == "" || addr == "" || len(value) > 500 { // RFC 3461 §4.2
			return errBadParam
		}
		r.ORCPT = text
	case key == "XMAILBOX" && o.Deliver:
		r.Mailbox = text
	case key == "XFLAGS" && o.Deliver:
		r.Flags = strings.Fields(text)
	case key == "XSENTCOPY" && o.Deliver:
		if value != "" {
			return errBadParam
		}
		r.SentCopy = true
	default:
		return errParam
	}
	return nil
}

// setNotify takes NEVER, or a list of the other three (RFC 3461 §4.1).
func setNotify(r *mail.Recipient, value string) *mail.Status {
	list := strings.ToUpper(value)
	seen := make(map[string]bool, 3)
	for word := range strings.SplitSeq(list, ",") {
		switch word {
		case "SUCCESS", "FAILURE", "DELAY":
		case "NEVER":
			if list != "NEVER" {
				return errBadParam
			}
		default:
			return errBadParam
		}
		if seen[word] {
			return errBadParam
		}
		seen[word] = true
	}
	r.Notify = list
	return nil
}

// eachParam calls set for each parameter of s, which is empty or begins with a
// blank. Keys come in upper case; a parameter without "=" has an empty value.
func eachParam(s string, set func(key, value string) *mail.Status) *mail.Status {
	if s != "" && s[0] != ' ' {
		return status(501, 5, 4, "junk after the path")
	}
	seen := make(map[string]bool)
	for word := range strings.FieldsSeq(s) {
		key, value, eq := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		if key == "" || eq && value == "" || strings.Contains(value, "=") {
			return errBadParam
		}
		if seen[key] {
			return errTwice
		}
		seen[key] = true
		if st := set(key, value); st != nil {
			return st
		}
	}
	return nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// isPrintable reports whether s is UTF-8 without controls: safe in a header
// field, a log line and a mailbox name.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}
