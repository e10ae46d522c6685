package trigram_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"mailsrv/pkg/trigram"
)

// index is what a Builder made.
type index struct {
	firsts []trigram.Gram
	pages  [][]byte
}

func pagesOf(b *trigram.Builder) (x index) {
	for first, page := range b.Pages() {
		x.firsts, x.pages = append(x.firsts, first), append(x.pages, bytes.Clone(page))
	}
	return x
}

func (x index) candidates(t *testing.T, n int, text []byte) trigram.Set {
	t.Helper()
	found := trigram.All(n)
	for _, g := range trigram.Grams(text) {
		var docs trigram.Set
		for i := len(x.pages) - 1; i >= 0; i-- {
			if x.firsts[i] <= g {
				var err error
				if docs, err = trigram.Find(x.firsts[i], x.pages[i], g); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		found.And(&docs)
	}
	return found
}

// texts are n documents of random words of few letters, so that trigrams recur.
func texts(r *rand.Rand, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		for range 200 + r.IntN(2000) {
			all[i] = append(all[i], "abcdefghij \xc3\xa9"[r.IntN(13)])
		}
	}
	return all
}

func build(b *trigram.Builder, from int, docs [][]byte) {
	for i, d := range docs {
		b.Begin(from + i)
		half := len(d) / 2
		b.Write(d[:half])
		b.Write(d[half:])
		b.End()
	}
}

func TestCandidates(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 31, 33, 256} {
		docs := texts(r, n)
		var b trigram.Builder
		build(&b, 0, docs)
		x := pagesOf(&b)
		for _, p := range x.pages {
			if len(p) > trigram.PageSize {
				t.Fatalf("page of %d bytes", len(p))
			}
		}
		for range 500 {
			d := docs[r.IntN(n)]
			at, size := r.IntN(len(d)-12), 3+r.IntN(9)
			needle := d[at : at+size]
			found := x.candidates(t, n, needle)
			for i, d := range docs {
				if bytes.Contains(d, needle) && !found.Has(i) {
					t.Fatalf("document %d of %d holds %q and is no candidate", i, n, needle)
				}
				if size == 3 && found.Has(i) && !bytes.Contains(d, needle) {
					t.Fatalf("document %d of %d is a candidate for %q", i, n, needle)
				}
			}
		}
	}
}

// TestMergeIsBuild: what is put together of two indexes, less some documents, is
// what is built of the documents.
func TestMergeIsBuild(t *testing.T) {
	docs := texts(rand.New(rand.NewPCG(3, 4)), 200)
	var b trigram.Builder
	var parts []index
	for _, half := range [][][]byte{docs[:100], docs[100:]} {
		b.Reset()
		build(&b, 0, half)
		parts = append(parts, pagesOf(&b))
	}
	b.Reset()
	var kept [][]byte
	for n, part := range parts {
		var to [trigram.MaxDocs]int
		for i := range to {
			if to[i] = -1; i < 100 && i%3 != 0 {
				to[i] = len(kept)
				kept = append(kept, docs[n*100+i])
			}
		}
		for i, page := range part.pages {
			if err := b.Take(part.firsts[i], page, &to); err != nil {
				t.Fatal(err)
			}
		}
	}
	merged := pagesOf(&b)
	b.Reset()
	build(&b, 0, kept)
	if want := pagesOf(&b); fmt.Sprint(merged) != fmt.Sprint(want) {
		t.Error("a merged index is not the one that is built of its documents")
	}
}

func TestTextsStayApart(t *testing.T) {
	var b trigram.Builder
	b.Begin(0)
	b.Write([]byte("ab"))
	b.Text()
	b.Write([]byte("cd"))
	b.End()
	if b.Len() != 0 {
		t.Errorf("%d trigrams of two texts of two octets", b.Len())
	}
}

func TestTooManyGrams(t *testing.T) {
	var b trigram.Builder
	noise := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	b.Begin(0)
	b.Write(noise)
	if b.End() || b.Len() != 0 {
		t.Fatal("a document of noise is in the index")
	}
	b.Begin(1)
	b.Write([]byte("abc"))
	if !b.End() || b.Len() != 1 {
		t.Fatal("the next document is not")
	}
}

func FuzzFind(f *testing.F) {
	var b trigram.Builder
	build(&b, 0, texts(rand.New(rand.NewPCG(7, 8)), 40))
	for first, page := range b.Pages() {
		f.Add(uint32(first), page, uint32(first)+77)
	}
	f.Fuzz(func(t *testing.T, first uint32, page []byte, gram uint32) {
		var to [trigram.MaxDocs]int
		_, err := trigram.Find(trigram.Gram(first&0xffffff), page, trigram.Gram(gram&0xffffff))
		if err != nil && !errors.Is(err, trigram.ErrPage) {
			t.Fatal(err)
		}
		var b trigram.Builder
		if err := b.Take(trigram.Gram(first&0xffffff), page, &to); err != nil && !errors.Is(err, trigram.ErrPage) {
			t.Fatal(err)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	docs := make([][]byte, 256)
	r := rand.New(rand.NewPCG(9, 10))
	words := texts(r, 400)
	for i := range docs {
		for len(docs[i]) < 4<<10 {
			w := words[r.IntN(len(words))]
			docs[i] = append(append(docs[i], w[:3+r.IntN(6)]...), ' ')
		}
	}
	var x trigram.Builder
	b.SetBytes(256 * 4 << 10)
	for b.Loop() {
		x.Reset()
		build(&x, 0, docs)
		for range x.Pages() {
		}
	}
}
