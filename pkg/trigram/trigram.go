// Package trigram is the data structure of a text index: which of up to 256
// documents hold which three octets in a row. It answers with candidates: a
// document that holds a text holds all its trigrams, but not the other way.
//
// It knows neither disks nor messages. A Builder takes documents and yields
// pages; Find and Search read them.
package trigram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

const (
	// MaxDocs is how many documents one index has at the most.
	MaxDocs = 256
	// MaxGrams is how many different trigrams a document may have; one with
	// more is a candidate for everything, and not in the index.
	MaxGrams = 1 << 17
	// PageSize bounds a page, in bytes: it fits one page of a database.
	PageSize = 3900
)

// ErrPage: a page is not what a Builder made.
var ErrPage = errors.New("damaged page of an index")

// Set is a set of documents.
type Set [MaxDocs / 64]uint64

// All is the set of the first n documents.
func All(n int) (s Set) {
	for i := range n {
		s.Add(i)
	}
	return s
}

// Add puts document i into the set.
func (s *Set) Add(i int) { s[i>>6] |= 1 << (i & 63) }

// Has reports whether document i is in the set.
func (s *Set) Has(i int) bool { return s[i>>6]&(1<<(i&63)) != 0 }

// And keeps what is in t too, and reports whether anything is left.
func (s *Set) And(t *Set) bool {
	left := uint64(0)
	for i := range s {
		s[i] &= t[i]
		left |= s[i]
	}
	return left != 0
}

// Len counts the documents.
func (s *Set) Len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Gram is three octets, the first on top.
type Gram uint32

// Grams yields the trigrams of a text, each once, in no promised order.
func Grams(text []byte) []Gram {
	var all []Gram
	for i := 0; i+3 <= len(text); i++ {
		all = append(all, Gram(text[i])<<16|Gram(text[i+1])<<8|Gram(text[i+2]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Builder makes an index. It holds about 2 MiB and 8 bytes for each document's
// trigram, and is used by one goroutine.
type Builder struct {
	seen    []uint64 // a bit for each trigram of the document in hand
	pairs   []uint32 // Gram<<8 | document
	sorted  []uint32
	begin   int // of the document's pairs
	doc     int
	last    uint32 // the last two octets of the text, of which tail are there
	tail    int
	tooMany bool
}

// Reset forgets all documents.
func (b *Builder) Reset() { b.pairs = b.pairs[:0] }

// Len is how many pairs of a trigram and a document there are.
func (b *Builder) Len() int { return len(b.pairs) }

// Begin begins document i; documents come in ascending order.
func (b *Builder) Begin(i int) {
	if b.seen == nil {
		b.seen = make([]uint64, 1<<24/64)
	}
	b.doc, b.begin, b.tooMany = i, len(b.pairs), false
	b.Text()
}

// Text begins a text of the document: no trigram reaches from one to another.
func (b *Builder) Text() { b.last, b.tail = 0, 0 }

// Write goes on with the text.
func (b *Builder) Write(text []byte) {
	if b.tooMany {
		return
	}
	for _, c := range text {
		gram := (b.last<<8 | uint32(c)) & 0xffffff
		b.last = gram & 0xffff
		if b.tail < 2 {
			b.tail++
			continue
		}
		if word, bit := gram>>6, uint64(1)<<(gram&63); b.seen[word]&bit == 0 {
			b.seen[word] |= bit
			b.pairs = append(b.pairs, gram<<8|uint32(b.doc))
		}
	}
	b.tooMany = len(b.pairs)-b.begin > MaxGrams
}

// End ends the document. false: it has too many trigrams, and is not in the index.
func (b *Builder) End() bool {
	for _, p := range b.pairs[b.begin:] {
		b.seen[p>>14] = 0
	}
	if b.tooMany {
		b.pairs = b.pairs[:b.begin]
	}
	return !b.tooMany
}

// Take brings the documents of a page in: document i as to[i], unless that is
// negative. Numbers must ascend as i does, and be above those before.
func (b *Builder) Take(first Gram, page []byte, to *[MaxDocs]int) error {
	return each(first, page, func(g Gram, docs *Set) bool {
		for i, w := range docs {
			for ; w != 0; w &= w - 1 {
				if n := to[i<<6+bits.TrailingZeros64(w)]; n >= 0 {
					b.pairs = append(b.pairs, uint32(g)<<8|uint32(n))
				}
			}
		}
		return true
	})
}

// Pages yields the index: each page with the first trigram on it, ascending.
// What is yielded is good until the next step.
func (b *Builder) Pages() iter.Seq2[Gram, []byte] {
	return func(yield func(Gram, []byte) bool) {
		b.sort()
		var page []byte
		var first, last Gram
		for rest := b.pairs; len(rest) > 0; {
			g, n := Gram(rest[0]>>8), 1
			for n < len(rest) && Gram(rest[n]>>8) == g {
				n++
			}
			if len(page) > PageSize-maxEntry {
				if !yield(first, page) {
					return
				}
				page = page[:0]
			}
			if len(page) == 0 {
				first, last = g, g
			}
			page = appendEntry(page, g-last, rest[:n])
			last, rest = g, rest[n:]
		}
		if len(page) > 0 {
			yield(first, page)
		}
	}
}

// sort sorts the pairs by their trigrams; those of one stay in their order,
// which is that of the documents.
func (b *Builder) sort() {
	b.sorted = slices.Grow(b.sorted[:0], len(b.pairs))[:len(b.pairs)]
	for _, shift := range [...]int{8, 20} {
		var at [1 << 12]int
		for _, p := range b.pairs {
			at[p>>shift&0xfff]++
		}
		sum := 0
		for i, n := range at {
			at[i], sum = sum, sum+n
		}
		for _, p := range b.pairs {
			i := p >> shift & 0xfff
			b.sorted[at[i]] = p
			at[i]++
		}
		b.pairs, b.sorted = b.sorted, b.pairs
	}
}

// An entry is the distance to the last trigram, the number of documents less
// one, and then the documents: a byte each, or where there are more than
// fewDocs a bit each.
const (
	fewDocs  = MaxDocs / 8
	maxEntry = binary.MaxVarintLen32 + 1 + fewDocs
)

func appendEntry(dst []byte, distance Gram, pairs []uint32) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(distance)), byte(len(pairs)-1))
	if len(pairs) <= fewDocs {
		for _, p := range pairs {
			dst = append(dst, byte(p))
		}
		return dst
	}
	var docs Set
	for _, p := range pairs {
		docs.Add(int(byte(p)))
	}
	for _, w := range docs {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst
}

// each calls fn for the entries of a page until it returns false.
func each(first Gram, page []byte, fn func(Gram, *Set) bool) error {
	g := first
	for len(page) > 0 {
		distance, n := binary.Uvarint(page)
		if n <= 0 || distance >= 1<<24 || len(page) == n {
			return ErrPage
		}
		g += Gram(distance)
		count := int(page[n]) + 1
		page = page[n+1:]
		var docs Set
		if size := min(count, fewDocs); len(page) < size {
			return fmt.Errorf("%w: cut short", ErrPage)
		} else if count <= fewDocs {
			for _, d := range page[:size] {
				docs.Add(int(d))
			}
			page = page[size:]
		} else {
			for i := range docs {
				docs[i] = binary.LittleEndian.Uint64(page[8*i:])
			}
			page = page[size:]
		}
		if !fn(g, &docs) {
			return nil
		}
	}
	return nil
}

// Find returns the documents that hold gram by the page that would have it: the
// last whose first trigram is not above it.
func Find(first Gram, page []byte, gram Gram) (found Set, err error) {
	err = each(first, page, func(g Gram, docs *Set) bool {
		if g == gram {
			found = *docs
		}
		return g < gram
	})
	return found, err
}
