package mtasts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/mail"
)

// Mode is what a domain wants of those who send to it (RFC 8461 §5).
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Testing Mode = "testing"
	None    Mode = "none"
)

// Limits of a policy.
const (
	maxPolicy = 64 << 10 // bytes
	maxAge    = 31557600 * time.Second
)

// Policy is what a domain published.
type Policy struct {
	Mode Mode
	// MX are host names, or "*." and a domain.
	MX     []string
	MaxAge time.Duration
}

// ParsePolicy reads a policy file (RFC 8461 §3.2). Keys that are not known are
// passed over.
func ParsePolicy(text string) (Policy, error) {
	var p Policy
	version := false
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, found := strings.Cut(line, ":")
		if !found {
			return p, fmt.Errorf("malformed line %.40q", line)
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "version":
			if value != "STSv1" {
				return p, fmt.Errorf("version %.40q", value)
			}
			version = true
		case "mode":
			p.Mode = Mode(value)
		case "mx":
			name := strings.TrimPrefix(value, "*.")
			domain, err := mail.ParseDomain(name)
			if err != nil {
				return p, err
			}
			p.MX = append(p.MX, strings.TrimSuffix(value, name)+domain)
		case "max_age":
			seconds, err := strconv.ParseUint(value, 10, 40)
			if err != nil {
				return p, fmt.Errorf("max_age %.40q", value)
			}
			p.MaxAge = min(time.Duration(seconds)*time.Second, maxAge)
		}
	}
	switch {
	case !version:
		return p, errors.New("no version")
	case p.Mode != Enforce && p.Mode != Testing && p.Mode != None:
		return p, fmt.Errorf("mode %.40q", p.Mode)
	case p.MaxAge == 0:
		return p, errors.New("no max_age")
	case p.Mode != None && len(p.MX) == 0:
		return p, errors.New("no mx")
	}
	return p, nil
}

// Allows reports whether host, in lower case, may be the domain's MX (RFC 8461
// §4.1): a "*" stands for one label.
func (p Policy) Allows(host string) bool {
	host = strings.TrimSuffix(host, ".")
	return slices.ContainsFunc(p.MX, func(mx string) bool {
		parent, wild := strings.CutPrefix(mx, "*.")
		if !wild {
			return host == mx
		}
		_, rest, found := strings.Cut(host, ".")
		return found && rest == parent
	})
}

// parseRecord reads the TXT record that announces a policy and returns its id
// (RFC 8461 §3.1).
func parseRecord(texts []string) (id string, ok bool) {
	n := 0
	for _, t := range texts {
		version, rest, found := strings.Cut(t, ";")
		if strings.TrimSpace(version) != "v=STSv1" || !found {
			continue
		}
		n++
		for field := range strings.SplitSeq(rest, ";") {
			if v, is := strings.CutPrefix(strings.TrimSpace(field), "id="); is {
				id = v
			}
		}
	}
	return id, n == 1 && id != "" && len(id) <= 32
}
