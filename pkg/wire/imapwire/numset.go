package imapwire

import (
	"math"
	"slices"
	"strconv"
)

// Star is "*" in a NumRange: the largest number in use.
const Star = 0

// NumRange is two numbers in any order, both included; either may be Star.
type NumRange struct{ First, Last uint32 }

// NumSet is a sequence-set of message numbers or UIDs as the client wrote it
// (RFC 3501 §9). It costs what was written, never what it spans.
type NumSet []NumRange

// maxRanges bounds the ranges of one set; 64 kB of text hold fewer.
const maxRanges = 32 << 10

// NumSet reads a sequence-set.
func (l *Lexer) NumSet() NumSet {
	var set NumSet
	for {
		r := NumRange{First: l.setNumber()}
		r.Last = r.First
		if l.Take(':') {
			r.Last = l.setNumber()
		}
		if l.err != nil {
			return nil
		}
		if set = append(set, r); len(set) > maxRanges {
			l.fail("too many ranges in a set")
			return nil
		}
		if !l.Take(',') {
			return set
		}
	}
}

func (l *Lexer) setNumber() uint32 {
	if l.Take('*') {
		return Star
	}
	n := l.Number()
	if n == 0 {
		l.fail("a message number is 1 to 4294967295, or *")
	}
	return n
}

// Resolve returns the set with Star as largest, ascending, disjoint and not
// adjacent. With largest 0 nothing is in use: Star then names nothing.
func (s NumSet) Resolve(largest uint32) NumSet {
	out := make(NumSet, 0, len(s))
	for _, r := range s {
		if largest == 0 && (r.First == Star || r.Last == Star) {
			continue
		}
		if r.First == Star {
			r.First = largest
		}
		if r.Last == Star {
			r.Last = largest
		}
		if r.First > r.Last {
			r.First, r.Last = r.Last, r.First
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b NumRange) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	merged := out[:0]
	for _, r := range out {
		if n := len(merged); n > 0 && (merged[n-1].Last == math.MaxUint32 || r.First <= merged[n-1].Last+1) {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// AppendNumSet appends nums, which ascend, as a set with ranges ("1:3,7").
func AppendNumSet[T ~uint32](dst []byte, nums []T) []byte {
	for i := 0; i < len(nums); {
		j := i
		for j+1 < len(nums) && nums[j+1] == nums[j]+1 {
			j++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(nums[i]), 10)
		if j > i {
			dst = append(dst, ':')
			dst = strconv.AppendUint(dst, uint64(nums[j]), 10)
		}
		i = j + 1
	}
	return dst
}
