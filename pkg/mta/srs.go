package mta

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"mailsrv/pkg/mail"
)

// SRS rewrites the reverse-path of what we forward into one of our own domains
// (Sender Rewriting Scheme, Shevek 2004), so that SPF at the next hop judges us
// by our name, and bounces find back to the sender. Only addresses that we made
// ourselves, and not long ago, are undone: it is no relay. The zero SRS, without
// a key, rewrites nothing. It may be used from many goroutines.
type SRS struct {
	key []byte
	now func() time.Time
}

// NewSRS returns an SRS with a secret key, which all MTAs of a domain share.
func NewSRS(key []byte) SRS { return SRS{key: key, now: time.Now} }

// ErrSRS: the address looks like one of SRS, and is none of ours or too old.
var ErrSRS = errors.New("not a rewritten address of ours")

const (
	// srsDays is for how long bounces find back.
	srsDays = 21
	// srsPeriod is after how many days the timestamp repeats.
	srsPeriod = 1 << 10
	srsDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

var srsEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Forward returns the reverse-path for a message from sender that an address
// of domain forwards. ok is false where none is possible: no key, a null
// sender, or one too long.
func (s SRS) Forward(sender mail.Address, domain string) (mail.Address, bool) {
	if len(s.key) == 0 || sender.IsNull() || domain == "" {
		return mail.Address{}, false
	}
	local := "SRS0=" + s.sign(s.stamp(), sender.Domain, sender.Local) + "=" + s.stamp() + "=" + sender.Domain + "=" + sender.Local
	switch kind, rest := srsForm(sender.Local); kind {
	case '0': // the second forwarder remembers the first, who knows the sender
		local = "SRS1=" + s.sign(sender.Domain, rest) + "=" + sender.Domain + "=" + rest
	case '1':
		parts := strings.SplitN(rest[1:], "=", 3)
		if len(parts) != 3 {
			return mail.Address{}, false
		}
		local = "SRS1=" + s.sign(parts[1], parts[2]) + "=" + parts[1] + "=" + parts[2]
	}
	if len(local) > mail.MaxLocal {
		return mail.Address{}, false
	}
	return mail.Address{Local: local, Domain: domain}, true
}

// Reverse returns the address to which a bounce for a belongs. found is false
// if a is no address of SRS at all; ErrSRS if it is none of ours.
func (s SRS) Reverse(a mail.Address) (sender mail.Address, found bool, err error) {
	kind, rest := srsForm(a.Local)
	if kind == 0 || len(s.key) == 0 {
		return mail.Address{}, false, nil
	}
	parts := strings.SplitN(rest[1:], "=", 4)
	switch {
	case kind == '0' && len(parts) == 4:
		hash, stamp, domain, local := parts[0], parts[1], parts[2], parts[3]
		if !s.signed(hash, stamp, domain, local) || !s.fresh(stamp) {
			return mail.Address{}, true, ErrSRS
		}
		sender = mail.Address{Local: local, Domain: domain}
	case kind == '1' && len(parts) >= 3:
		parts = strings.SplitN(rest[1:], "=", 3)
		if !s.signed(parts[0], parts[1], parts[2]) {
			return mail.Address{}, true, ErrSRS
		}
		sender = mail.Address{Local: "SRS0" + parts[2], Domain: parts[1]}
	default:
		return mail.Address{}, true, ErrSRS
	}
	domain, err := mail.ParseDomain(sender.Domain)
	if err != nil || sender.Local == "" {
		return mail.Address{}, true, ErrSRS
	}
	sender.Domain = domain
	return sender, true, nil
}

// srsForm returns '0' or '1' for a local part of SRS0 or SRS1 and what follows
// it, separator included; 0 for any other.
func srsForm(local string) (byte, string) {
	if len(local) < 6 || !strings.EqualFold(local[:3], "SRS") || local[3] != '0' && local[3] != '1' || strings.IndexByte("=+-", local[4]) < 0 {
		return 0, ""
	}
	return local[3], local[4:]
}

// sign is a hash of eight characters that does not mind changes of case.
func (s SRS) sign(parts ...string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(strings.ToLower(strings.Join(parts, "="))))
	return srsEncoding.EncodeToString(mac.Sum(nil)[:5])
}

func (s SRS) signed(hash string, parts ...string) bool {
	return subtle.ConstantTimeCompare([]byte(strings.ToUpper(hash)), []byte(s.sign(parts...))) == 1
}

func (s SRS) day() int64 { return s.now().Unix() / (24 * 60 * 60) % srsPeriod }

// stamp is today in two characters.
func (s SRS) stamp() string {
	d := s.day()
	return string([]byte{srsDigits[d>>5], srsDigits[d&31]})
}

func (s SRS) fresh(stamp string) bool {
	if len(stamp) != 2 {
		return false
	}
	stamp = strings.ToUpper(stamp)
	hi, lo := strings.IndexByte(srsDigits, stamp[0]), strings.IndexByte(srsDigits, stamp[1])
	if hi < 0 || lo < 0 {
		return false
	}
	age := (s.day() - int64(hi<<5|lo) + srsPeriod) % srsPeriod
	return age <= srsDays
}
