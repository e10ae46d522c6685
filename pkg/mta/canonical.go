package mta

import (
	"bytes"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// canonical puts the user's canonical address into the reverse-path of a
// submission, where an alternate stands, and returns what is to be put in the
// place of what in its header. Equivalent addresses stay (schema.md section 3).
func canonical(e *Evidence) map[mail.Address]mail.Address {
	if !e.Session.Submission || e.Session.Identity == nil {
		return nil
	}
	u := &e.Session.Identity.User
	if u.Mail.IsNull() {
		return nil
	}
	rewrite := make(map[mail.Address]mail.Address, len(u.Alternates))
	for _, a := range u.Alternates {
		if a.Local != "" && a.Key() != u.Mail.Key() {
			rewrite[a.Key()] = u.Mail
		}
	}
	if to, ok := rewrite[e.Sender.From.Key()]; ok {
		e.Sender.From = to
	}
	return rewrite
}

// rewritten is the header block without the fields that drop names and with
// the author's addresses as canonical has them.
func (h *Header) rewritten(drop func(mime.Field) bool, canonical map[mail.Address]mail.Address) (block []byte, changed bool) {
	out := make([]byte, 0, len(h.Block)+64)
	for f := range mime.Fields(h.Block) {
		switch {
		case drop(f):
			changed = true
		case len(canonical) > 0 && (f.Is("From") || f.Is("Reply-To") || f.Is("Sender")):
			raw := rewriteField(f, canonical)
			changed = changed || !bytes.Equal(raw, f.Raw)
			out = append(out, raw...)
		default:
			out = append(out, f.Raw...)
		}
	}
	if bytes.HasSuffix(h.Block, []byte("\r\n\r\n")) {
		out = append(out, "\r\n"...)
	}
	return out, changed
}

// rewriteField replaces the addresses of a field, where each stands once and as
// it would be sent: what surrounds them stays as it is.
func rewriteField(f mime.Field, canonical map[mail.Address]mail.Address) []byte {
	raw := f.Raw
	for _, a := range mime.ParseAddressList(f.Value()) {
		domain, err := mail.ParseDomain(a.Domain)
		if a.Kind != mime.Mailbox || err != nil {
			continue
		}
		to, ok := canonical[mail.Address{Local: a.Local, Domain: domain}.Key()]
		written := []byte(a.Local + "@" + a.Domain)
		if ok && bytes.Count(raw, written) == 1 && !strings.ContainsAny(a.Local, "\" ") {
			raw = bytes.Replace(raw, written, []byte(to.String()), 1)
		}
	}
	return raw
}
