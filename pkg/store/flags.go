package store

import (
	"fmt"
	"slices"
	"strings"
)

// SystemFlags is the set of flags that begin with a backslash (RFC 9051 §2.3.2).
type SystemFlags uint8

// The system flags. \Recent is a matter of the session and not here.
const (
	Seen SystemFlags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
)

// systemNames is in the order in which servers have always written them.
var systemNames = [...]struct {
	flag SystemFlags
	name string
}{{Answered, `\Answered`}, {Flagged, `\Flagged`}, {Deleted, `\Deleted`}, {Seen, `\Seen`}, {Draft, `\Draft`}}

// MaxKeyword is the longest keyword, in bytes.
const MaxKeyword = 255

// Flags is a message's flags and keywords. Keywords are in ascending order
// without doubles, compared without regard to case; the slice is shared and
// must not be changed.
type Flags struct {
	System   SystemFlags
	Keywords []string
}

// ParseFlag returns f with the flag of that name added. \Recent is not one
// that can be stored.
func (f Flags) ParseFlag(name string) (Flags, error) {
	if strings.HasPrefix(name, `\`) {
		for _, s := range systemNames {
			if strings.EqualFold(name, s.name) {
				f.System |= s.flag
				return f, nil
			}
		}
		return f, fmt.Errorf("unknown system flag %.40q", name)
	}
	if name == "" || len(name) > MaxKeyword {
		return f, fmt.Errorf("keyword of %d bytes; 1 to %d are allowed", len(name), MaxKeyword)
	}
	return f.Union(Flags{Keywords: []string{name}}), nil
}

// ParseFlags reads a list of flag names.
func ParseFlags(names []string) (Flags, error) {
	var f Flags
	for _, n := range names {
		var err error
		if f, err = f.ParseFlag(n); err != nil {
			return Flags{}, err
		}
	}
	return f, nil
}

// Has reports whether all system flags of s are set.
func (f Flags) Has(s SystemFlags) bool { return f.System&s == s }

// HasKeyword reports whether the keyword is set, in any case.
func (f Flags) HasKeyword(name string) bool {
	_, found := slices.BinarySearchFunc(f.Keywords, name, compareFold)
	return found
}

// Union returns the flags that are in f or g; f's spelling of a keyword wins.
func (f Flags) Union(g Flags) Flags {
	out := Flags{System: f.System | g.System, Keywords: f.Keywords}
	for _, k := range g.Keywords {
		if i, found := slices.BinarySearchFunc(out.Keywords, k, compareFold); !found {
			out.Keywords = slices.Insert(slices.Clone(out.Keywords), i, k)
		}
	}
	return out
}

// Minus returns the flags of f that are not in g.
func (f Flags) Minus(g Flags) Flags {
	out := Flags{System: f.System &^ g.System}
	for _, k := range f.Keywords {
		if !g.HasKeyword(k) {
			out.Keywords = append(out.Keywords, k)
		}
	}
	return out
}

// Apply returns f after the change.
func (f Flags) Apply(c FlagChange) Flags {
	if c.Within != 0 { // what it may not change stays
		within := c.Within.Allowed(f)
		return f.Minus(within).Union(within.Apply(FlagChange{Kind: c.Kind, Flags: c.Within.Allowed(c.Flags)}))
	}
	switch c.Kind {
	case FlagsAdd:
		return f.Union(c.Flags)
	case FlagsRemove:
		return f.Minus(c.Flags)
	}
	return c.Flags
}

// Equal compares, keywords without regard to case.
func (f Flags) Equal(g Flags) bool {
	return f.System == g.System && slices.EqualFunc(f.Keywords, g.Keywords, strings.EqualFold)
}

// Names lists the flags as IMAP writes them.
func (f Flags) Names() []string {
	var names []string
	for _, s := range systemNames {
		if f.Has(s.flag) {
			names = append(names, s.name)
		}
	}
	return append(names, f.Keywords...)
}

// AppendTo appends the flags to dst as IMAP writes them, separated by spaces,
// without parentheses.
func (f Flags) AppendTo(dst []byte) []byte {
	start := len(dst)
	for _, s := range systemNames {
		if f.Has(s.flag) {
			dst = append(append(dst, s.name...), ' ')
		}
	}
	for _, k := range f.Keywords {
		dst = append(append(dst, k...), ' ')
	}
	if len(dst) > start {
		dst = dst[:len(dst)-1]
	}
	return dst
}

func compareFold(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }
