package dmarc

import (
	"errors"
	"fmt"
	"strings"
)

// Policy is what a domain's owner wants done with mail that fails.
type Policy string

// The policies (RFC 7489 §6.3).
const (
	None       Policy = "none"
	Quarantine Policy = "quarantine"
	Reject     Policy = "reject"
)

// errNoRecord: a TXT record is no DMARC record at all.
var errNoRecord = errors.New("not a DMARC record")

// Record is a DMARC policy record.
type Record struct {
	// Policy is for mail of the record's own domain, Subdomain for that of the
	// domains below it, Missing for those below it that do not exist.
	Policy, Subdomain, Missing Policy
	// StrictDKIM and StrictSPF want the very domain, not one of the same organisation.
	StrictDKIM, StrictSPF bool
	// Testing asks for one step less than the policy says.
	Testing bool
	// PSD is 'y' for a public suffix, 'n' for the top of an organisation, 'u' if nothing is said.
	PSD byte
}

// ParseRecord reads a record: RFC 7489 §6.3, with the tags np, psd and t that
// its successor adds. pct, which the successor dropped, counts only as 0.
func ParseRecord(text string) (Record, error) {
	r := Record{PSD: 'u'}
	first, reports := true, false
	for part := range strings.SplitSeq(text, ";") {
		tag, value, found := strings.Cut(part, "=")
		tag, value = strings.ToLower(strings.TrimSpace(tag)), strings.TrimSpace(value)
		if first {
			if tag != "v" || value != "DMARC1" {
				return r, errNoRecord
			}
			first = false
			continue
		}
		if tag == "" && !found {
			continue
		}
		if !found {
			return r, fmt.Errorf("malformed tag %q", tag)
		}
		reports = reports || tag == "rua"
		r.set(tag, strings.ToLower(value))
	}
	if r.Policy == "" {
		if !reports {
			return r, errors.New("no policy")
		}
		r.Policy = None // RFC 7489 §6.6.3
	}
	if r.Subdomain == "" {
		r.Subdomain = r.Policy
	}
	if r.Missing == "" {
		r.Missing = r.Subdomain
	}
	return r, nil
}

// set takes one tag; what is unknown or malformed is passed over.
func (r *Record) set(tag, value string) {
	policy := func(p *Policy) {
		switch v := Policy(value); v {
		case None, Quarantine, Reject:
			*p = v
		}
	}
	switch tag {
	case "p":
		policy(&r.Policy)
	case "sp":
		policy(&r.Subdomain)
	case "np":
		policy(&r.Missing)
	case "adkim":
		r.StrictDKIM = value == "s"
	case "aspf":
		r.StrictSPF = value == "s"
	case "t":
		r.Testing = r.Testing || value == "y"
	case "pct":
		r.Testing = r.Testing || value == "0"
	case "psd":
		if value == "y" || value == "n" {
			r.PSD = value[0]
		}
	}
}

// tested is the policy in force: one step down while the record is tested.
func (r Record) tested(p Policy) Policy {
	switch {
	case !r.Testing:
		return p
	case p == Reject:
		return Quarantine
	}
	return None
}
