package smtpwire

import (
	"strconv"
	"strings"

	"mailsrv/pkg/mail"
)

// AppendMail appends the MAIL command for env with CRLF. size is the length of
// the message in bytes. Only parameters that the server announced are sent.
func AppendMail(dst []byte, env mail.Envelope, size int64, ext Extensions) []byte {
	dst = append(dst, "MAIL FROM:<"...)
	dst = append(dst, env.From.String()...)
	dst = append(dst, '>')
	if ext.Has(ExtSize) && size > 0 {
		dst = strconv.AppendInt(append(dst, " SIZE="...), size, 10)
	}
	switch {
	case ext.Has(ExtBinary) && ext.Has(ExtChunking) && env.Binary:
		dst = append(dst, " BODY=BINARYMIME"...)
	case ext.Has(ExtEightBit) && env.EightBit:
		dst = append(dst, " BODY=8BITMIME"...)
	}
	if ext.Has(ExtRequireTLS) && env.RequireTLS {
		dst = append(dst, " REQUIRETLS"...)
	}
	if ext.Has(ExtUTF8) && NeedsUTF8(env) {
		dst = append(dst, " SMTPUTF8"...)
	}
	if ext.Has(ExtDSN) {
		if env.Ret != "" {
			dst = append(append(dst, " RET="...), env.Ret...)
		}
		if env.EnvID != "" {
			dst = AppendXtext(append(dst, " ENVID="...), env.EnvID)
		}
	}
	if ext.Has(ExtTrace) && env.Trace != "" {
		dst = append(append(dst, " XTRACE="...), env.Trace...)
	}
	return append(dst, "\r\n"...)
}

// AppendRcpt appends the RCPT command for r with CRLF. Only parameters that
// the server announced are sent.
func AppendRcpt(dst []byte, r mail.Recipient, ext Extensions) []byte {
	dst = append(dst, "RCPT TO:<"...)
	dst = append(dst, r.Address.String()...)
	dst = append(dst, '>')
	if ext.Has(ExtDSN) {
		if r.Notify != "" {
			dst = append(append(dst, " NOTIFY="...), r.Notify...)
		}
		if r.ORCPT != "" {
			dst = appendORCPT(append(dst, " ORCPT="...), r.ORCPT)
		}
	}
	if ext.Has(ExtDeliver) {
		if r.Mailbox != "" {
			dst = AppendXtext(append(dst, " XMAILBOX="...), r.Mailbox)
		}
		if len(r.Flags) > 0 {
			dst = AppendXtext(append(dst, " XFLAGS="...), strings.Join(r.Flags, " "))
		}
		if r.SentCopy {
			dst = append(dst, " XSENTCOPY"...)
		}
	}
	return append(dst, "\r\n"...)
}

// appendORCPT encodes the address alone: its type stands as it is.
func appendORCPT(dst []byte, orcpt string) []byte {
	kind, addr, _ := strings.Cut(orcpt, ";")
	return AppendXtext(append(append(dst, kind...), ';'), addr)
}

// NeedsUTF8 reports whether env cannot go without SMTPUTF8: its sender asked
// for it, or an address is not ASCII.
func NeedsUTF8(env mail.Envelope) bool {
	if env.SMTPUTF8 || !env.From.IsASCII() {
		return true
	}
	for _, r := range env.To {
		if !r.Address.IsASCII() {
			return true
		}
	}
	return false
}
