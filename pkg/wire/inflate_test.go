package wire

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// deflateOf compresses text in pieces, each flushed.
func deflateOf(t testing.TB, level int, text string, piece int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for len(text) > 0 {
		n := min(piece, len(text))
		if _, err := io.WriteString(w, text[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestInflate(t *testing.T) {
	noise := make([]byte, 200_000)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise)
	texts := map[string]string{
		"nothing": "", "one octet": "x", "repeated": strings.Repeat("a NOOP\r\n", 30_000), "noise": string(noise),
		"far copies": string(noise[:32_700]) + strings.Repeat(string(noise[:300]), 3) + string(noise[:32_768]),
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
				for _, piece := range []int{17, 5000, 1 << 20} {
					if piece == 17 && len(text) > 100_000 {
						continue
					}
					packed := deflateOf(t, level, text, piece)
					for _, src := range []io.Reader{bytes.NewReader(packed), iotest.OneByteReader(bytes.NewReader(packed)), iotest.HalfReader(bytes.NewReader(packed))} {
						if got, err := io.ReadAll(newInflater(src)); err != nil || string(got) != text {
							t.Fatalf("level %d, pieces of %d: %d of %d octets, %v", level, piece, len(got), len(text), err)
						}
					}
				}
			}
		})
	}
}

// TestInflateKeepsNothingBack: zlib's partial flush, which isync uses, ends with an
// empty block that ends within an octet. What stands before it must come out
// before any more is read.
func TestInflateKeepsNothingBack(t *testing.T) {
	// "a NOOP\r\n" by fixed codes, without an end of its block; the codes of 0 to
	// 143 have 8 bits, from 00110000 on, the highest bit first.
	var bits []bool
	bits = append(bits, false, true, false) // not the last block, fixed codes
	for _, c := range []byte("a NOOP\r\n") {
		for i := 7; i >= 0; i-- {
			bits = append(bits, (c+0x30)>>i&1 == 1)
		}
	}
	bits = append(bits, make([]bool, 7)...) // end of block
	bits = append(bits, false, true, false) // an empty block, fixed codes
	bits = append(bits, make([]bool, 7)...) // its end
	packed := make([]byte, len(bits)/8)     // whole octets alone are sent
	for i, bit := range bits[:len(packed)*8] {
		if bit {
			packed[i/8] |= 1 << (i % 8)
		}
	}
	f := newInflater(io.MultiReader(bytes.NewReader(packed), iotest.ErrReader(iotest.ErrTimeout)))
	got := make([]byte, 100)
	n, err := f.Read(got)
	if err != nil || string(got[:n]) != "a NOOP\r\n" {
		t.Fatalf("%q, %v", got[:n], err)
	}
	if n, err = f.Read(got); n != 0 || err != iotest.ErrTimeout {
		t.Errorf("%d octets, %v", n, err)
	}
}

// TestInflateGoesOn: a read that a deadline cut short loses nothing.
func TestInflateGoesOn(t *testing.T) {
	text := strings.Repeat("b FETCH 1:* (FLAGS)\r\n", 500)
	f := newInflater(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(deflateOf(t, flate.BestSpeed, text, 100)))))
	var got []byte
	for timeouts := 0; ; {
		p := make([]byte, 64)
		n, err := f.Read(p)
		got = append(got, p[:n]...)
		if err == iotest.ErrTimeout {
			timeouts++
		} else if err != nil {
			if err != io.EOF || timeouts != 1 || string(got) != text {
				t.Errorf("%v after %d timeouts, %d of %d octets", err, timeouts, len(got), len(text))
			}
			return
		}
	}
}

// FuzzInflate holds the inflater to compress/flate, the first as much as the
// second gives of a stream, and both to the same opinion of it.
func FuzzInflate(f *testing.F) {
	for _, text := range []string{"", "a NOOP\r\n", strings.Repeat("abcabc", 100), "\x00\xff\x80"} {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestCompression} {
			f.Add(deflateOf(f, level, text, 50))
		}
	}
	f.Add([]byte("\x04\xc0\x81\x08\x00\x00\x00\x00\x20\x7f\xeb\x0b\x00\x00"))
	f.Fuzz(func(t *testing.T, packed []byte) {
		const most = 1 << 20
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), most))
		got, err := io.ReadAll(io.LimitReader(newInflater(bytes.NewReader(packed)), most))
		switch {
		case wantErr == nil:
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d octets, %v; want %d", len(got), err, len(want))
			}
		case wantErr == io.ErrUnexpectedEOF: // where compress/flate stops for good, we have all there is, and wait
			if !bytes.HasPrefix(got, want) {
				t.Errorf("%q, want at least %q", got, want)
			}
		case err == nil && len(got) < most:
			// compress/flate may find a fault of the block's codes before it needs them.
			if !bytes.HasPrefix(want, got) && !bytes.HasPrefix(got, want) {
				t.Errorf("%q, %v; want %q, %v", got, err, want, wantErr)
			}
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	text := strings.Repeat("Subject: a message that somebody appends\r\nthe text of it, which has words\r\n", 1000)
	packed := deflateOf(b, flate.BestSpeed, text, 4096)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newInflater(bytes.NewReader(packed))); err != nil {
			b.Fatal(err)
		}
	}
}
