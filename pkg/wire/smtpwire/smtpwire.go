// Package smtpwire has the words of SMTP (RFC 5321) and LMTP (RFC 2033) in
// both directions, and the session loop that a server of either runs.
//
// Serve reads commands, keeps their order and their limits, and gives each to
// a Handler; replies are *mail.Status. For clients there are ReadReply,
// Extensions, AppendMail, AppendRcpt and DotWriter. What is accepted, for whom
// and from where is policy and lives with the Handler; nothing here knows it.
//
// Line ends are CRLF alone, both ways (RFC 5321 §2.3.8). A server answers a
// bare CR or LF with a refusal and closes; a client never sends one.
package smtpwire

import (
	"strings"

	"mailsrv/pkg/mail"
)

// ReadSize is the read buffer, in bytes, that Serve and ReadReply want their
// wire.Conn to be made with. It holds the longest AUTH and text lines.
const ReadSize = 16 << 10

// Limits of lines, in octets with their CRLF (RFC 5321 §4.5.3.1, RFC 4954 §4).
const (
	maxCommand = 512
	// maxParams bounds MAIL and RCPT, which extensions make longer.
	maxParams = 2048
	// maxDeliver bounds RCPT where XDELIVER is offered.
	maxDeliver = 8192
	maxAuth    = 12288
	// maxText bounds a line of a message; RFC 5321 asks for 1000, and real
	// mail has more.
	maxText = 8192
)

// The extension keywords this package speaks. XTRACE and XDELIVER are ours:
// XTRACE gives MAIL the parameter XTRACE=trace-id; XDELIVER gives RCPT the
// parameters XMAILBOX=xtext, XFLAGS=xtext (flags parted by spaces) and
// XSENTCOPY (mail.Recipient.Mailbox, Flags, SentCopy); XHISTORY is a command:
// see Historian.
const (
	ExtPipelining = "PIPELINING"
	ExtSize       = "SIZE"
	ExtEightBit   = "8BITMIME"
	ExtUTF8       = "SMTPUTF8"
	ExtEnhanced   = "ENHANCEDSTATUSCODES"
	ExtStartTLS   = "STARTTLS"
	ExtAuth       = "AUTH"
	ExtDSN        = "DSN"
	ExtChunking   = "CHUNKING"
	ExtBinary     = "BINARYMIME"
	ExtRequireTLS = "REQUIRETLS"
	ExtETRN       = "ETRN"
	ExtTrace      = "XTRACE"
	ExtDeliver    = "XDELIVER"
	ExtHistory    = "XHISTORY"
)

// Command is one command line.
type Command struct {
	// Verb is in upper case.
	Verb string
	// Arg is what follows the verb and one space, without trailing blanks.
	Arg string
}

// ParseCommand reads a command line without its CRLF. A control character
// anywhere makes it refuse the line.
func ParseCommand(line []byte) (Command, *mail.Status) {
	for _, b := range line {
		if b < ' ' && b != '\t' || b == 0x7f {
			return Command{}, status(500, 5, 2, "control character in a command")
		}
	}
	verb, arg, _ := strings.Cut(strings.TrimRight(string(line), " \t"), " ")
	return Command{Verb: strings.ToUpper(verb), Arg: strings.TrimLeft(arg, " ")}, nil
}

// status makes a Status whose class follows from its code. Enhanced codes of
// class x.0.0 are written as such; see AppendStatus for those without.
func status(code, subject, detail int, text string) *mail.Status {
	return &mail.Status{Code: code, Enhanced: [3]int{code / 100, subject, detail}, Text: text}
}

// isASCII reports whether s could be sent without SMTPUTF8.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
