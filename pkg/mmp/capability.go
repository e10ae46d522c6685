package mmp

import (
	"slices"
	"strings"
)

// Common is what all of the stores can do, in the order and spelling of the
// first: what may be announced before it is known whose mail is asked for. A
// nil list is of a store that nobody has heard of yet, and is passed over; nil
// if there is no other.
func Common(lists ...[]string) []string {
	lists = slices.DeleteFunc(slices.Clone(lists), func(l []string) bool { return l == nil })
	if len(lists) == 0 {
		return nil
	}
	common := slices.Clone(lists[0])
	for _, list := range lists[1:] {
		common = slices.DeleteFunc(common, func(c string) bool {
			return !slices.ContainsFunc(list, func(d string) bool { return strings.EqualFold(c, d) })
		})
	}
	return common
}
