package directory

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// Allows reports whether the user's and the domain's service access rules both
// admit the service from that address (schema.md section 3,
// mailAllowedServiceAccess). No rules allow everything; a rule that cannot be
// read allows nothing.
func (u User) Allows(s Service, from netip.Addr) bool {
	return allows(u.ServiceAccess[0], s, from) && allows(u.ServiceAccess[1], s, from)
}

// allows evaluates "rule$rule...", each "+" or "-", services, ":", clients. A
// matching allow wins; else a matching deny refuses; else it is refused where
// any allow was given.
func allows(rules string, s Service, from netip.Addr) bool {
	if strings.TrimSpace(rules) == "" {
		return true
	}
	denied, hasAllow := false, false
	for rule := range strings.SplitSeq(rules, "$") {
		rule = strings.TrimSpace(rule)
		if rule == "" {
			continue
		}
		services, clients, ok := strings.Cut(rule[1:], ":")
		if !ok || rule[0] != '+' && rule[0] != '-' {
			return false
		}
		deny := rule[0] == '-'
		match := matchList(services, func(item string) bool { return matchService(item, s) }) &&
			matchList(clients, func(item string) bool { return matchClient(item, from, deny) })
		if !deny {
			if hasAllow = true; match {
				return true
			}
		} else if match {
			denied = true
		}
	}
	return !denied && !hasAllow
}

// matchList evaluates "a,b EXCEPT c,d EXCEPT e": what follows an EXCEPT is taken
// away from what stands before it, from right to left.
func matchList(list string, match func(string) bool) bool {
	in := false
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	for i, w := range words {
		if strings.EqualFold(w, "EXCEPT") {
			return in && !matchList(strings.Join(words[i+1:], ","), match)
		}
		in = in || match(w)
	}
	return in
}

func matchService(item string, s Service) bool {
	return item == "*" || strings.EqualFold(item, "ALL") || strings.EqualFold(item, string(s))
}

// matchClient matches an address, a network in CIDR form or with a netmask, an
// address prefix ending in a dot, or a wildcard. No names are looked up: KNOWN
// and DNSSPOOFER match nobody, UNKNOWN everybody but this host, and the name of
// a host counts where it denies, and nowhere else.
func matchClient(item string, from netip.Addr, deny bool) bool {
	from = from.Unmap()
	switch strings.ToUpper(item) {
	case "*", "ALL":
		return true
	case "LOCAL":
		return from.IsLoopback()
	case "UNKNOWN":
		return !from.IsLoopback()
	case "KNOWN", "DNSSPOOFER":
		return false
	}
	if p, ok := parseNetwork(item); ok {
		return p.Contains(from)
	}
	if strings.HasSuffix(item, ".") && strings.Trim(item, "0123456789.") == "" {
		return strings.HasPrefix(from.String(), item)
	}
	return deny
}

// parseNetwork reads "192.0.2.1", "192.0.2.0/24", "192.0.2.0/255.255.255.0",
// "2001:db8::/32" and "[2001:db8::]/32".
func parseNetwork(item string) (netip.Prefix, bool) {
	address, mask, masked := strings.Cut(item, "/")
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"))
	if err != nil {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	bits := a.BitLen()
	if masked {
		if m, err := netip.ParseAddr(mask); err == nil && m.Is4() {
			var whole bool
			if bits, whole = onesOf(m.As4()); !whole {
				return netip.Prefix{}, false
			}
		} else if bits, err = strconv.Atoi(mask); err != nil {
			return netip.Prefix{}, false
		}
	}
	p, err := a.Prefix(bits)
	return p, err == nil
}

// onesOf counts the ones of a netmask; false: zeros stand between them.
func onesOf(mask [4]byte) (int, bool) {
	v := binary.BigEndian.Uint32(mask[:])
	n := bits.LeadingZeros32(^v)
	return n, v<<n == 0
}
