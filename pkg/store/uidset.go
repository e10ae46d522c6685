package store

import (
	"math"
	"slices"
)

// UIDRange is First to Last, both included.
type UIDRange struct {
	First, Last UID
}

// UIDSet is a set of UIDs as ranges, ascending, disjoint and not adjacent: it
// costs what a client wrote, never what it spans. The zero value is empty.
type UIDSet []UIDRange

// AllUIDs is every UID.
func AllUIDs() UIDSet { return UIDSet{{1, math.MaxUint32}} }

// UIDsOf is the set of those UIDs, in any order.
func UIDsOf(uids ...UID) UIDSet {
	ranges := make([]UIDRange, len(uids))
	for i, u := range uids {
		ranges[i] = UIDRange{u, u}
	}
	return NewUIDSet(ranges)
}

// NewUIDSet brings ranges, in any order and each end first, into a set. It
// takes the slice over. UID 0 is dropped.
func NewUIDSet(ranges []UIDRange) UIDSet {
	for i, r := range ranges {
		if r.First > r.Last {
			ranges[i] = UIDRange{r.Last, r.First}
		}
	}
	slices.SortFunc(ranges, func(a, b UIDRange) int {
		if a.First < b.First {
			return -1
		} else if a.First > b.First {
			return 1
		}
		return 0
	})
	out := ranges[:0]
	for _, r := range ranges {
		r.First = max(r.First, 1)
		if r.Last == 0 {
			continue
		}
		if n := len(out); n > 0 && (out[n-1].Last == math.MaxUint32 || r.First <= out[n-1].Last+1) {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return UIDSet(out)
}

// Contains reports whether u is in the set, in O(log n).
func (s UIDSet) Contains(u UID) bool {
	_, found := slices.BinarySearchFunc(s, u, func(r UIDRange, u UID) int {
		switch {
		case r.Last < u:
			return -1
		case r.First > u:
			return 1
		}
		return 0
	})
	return found
}

// IsEmpty reports whether nothing is in the set.
func (s UIDSet) IsEmpty() bool { return len(s) == 0 }
