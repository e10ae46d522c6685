package wire

import (
	"errors"
	"io"
)

// inflater reads a stream of DEFLATE (RFC 1951). Unlike compress/flate it keeps
// nothing back: before it waits for more input it hands out every octet that the
// input so far means, however the peer flushed (zlib's partial flush ends no
// block on an octet's bound, and would leave compress/flate silent). A read of the
// source that failed may be tried again: nothing is lost.
type inflater struct {
	src  io.Reader
	in   [4096]byte
	r, w int // in[r:w] is unread

	bits  uint64 // unread bits, the next one lowest
	nbits uint

	step  func(f *inflater, p []byte) (n int, err error) // what comes next in the stream
	final bool                                           // the block is the last one

	window  [32768]byte // what was handed out last, a ring
	written int64

	length, distance int // of the copy under way; length also of a stored block

	lit, dist huffman
	nlit      int // how many of lengths are for literals
	nlengths  int // how many there are in all
	ncodes    int // how many lengths of the code for lengths there are
	read      int // how many of them were read
	lengths   [286 + 30]byte
}

var (
	errDry     = errors.New("input ended within a word") // never leaves Read
	errDeflate = errors.New("malformed DEFLATE stream")
)

func newInflater(src io.Reader) *inflater {
	return &inflater{src: src, step: (*inflater).block}
}

// Read implements io.Reader; io.EOF comes after the last block.
func (f *inflater) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k, err := f.step(f, p[n:])
		n += k
		switch {
		case err == errDry && n > 0:
			return n, nil
		case err == errDry:
			if err := f.fill(); err != nil {
				return 0, err
			}
		case err != nil:
			return n, err
		}
	}
	return n, nil
}

// fill waits for input, once.
func (f *inflater) fill() error {
	f.r, f.w = 0, 0
	n, err := f.src.Read(f.in[:])
	f.w = n
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.ErrNoProgress
	default:
		return err
	}
}

// need looks for n bits, 48 at most.
func (f *inflater) need(n uint) error {
	for f.nbits < n {
		if f.r == f.w {
			return errDry
		}
		f.bits |= uint64(f.in[f.r]) << f.nbits
		f.r++
		f.nbits += 8
	}
	return nil
}

// take removes n bits that need has found.
func (f *inflater) take(n uint) int {
	v := f.bits & (1<<n - 1)
	f.bits >>= n
	f.nbits -= n
	return int(v)
}

// emit hands one octet out.
func (f *inflater) emit(p []byte, b byte) {
	p[0] = b
	f.window[f.written%int64(len(f.window))] = b
	f.written++
}

// block reads a block's first bits (RFC 1951 §3.2.3).
func (f *inflater) block([]byte) (int, error) {
	if f.final {
		return 0, io.EOF
	}
	if err := f.need(3); err != nil {
		return 0, err
	}
	f.final = f.take(1) == 1
	switch f.take(2) {
	case 0:
		f.take(f.nbits % 8)
		f.step = (*inflater).storedLength
	case 1:
		f.fixed()
		f.step = (*inflater).symbol
	case 2:
		f.step = (*inflater).counts
	default:
		return 0, errDeflate
	}
	return 0, nil
}

func (f *inflater) storedLength([]byte) (int, error) {
	if err := f.need(32); err != nil {
		return 0, err
	}
	f.length = f.take(16)
	if f.take(16) != f.length^0xffff {
		return 0, errDeflate
	}
	f.step = (*inflater).stored
	return 0, nil
}

func (f *inflater) stored(p []byte) (n int, err error) {
	for ; f.length > 0 && n < len(p); f.length-- {
		if err := f.need(8); err != nil {
			return n, err
		}
		f.emit(p[n:], byte(f.take(8)))
		n++
	}
	if f.length == 0 {
		f.step = (*inflater).block
	}
	return n, nil
}

// fixed sets the codes of RFC 1951 §3.2.6.
func (f *inflater) fixed() {
	var l [288]byte
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	_ = f.lit.set(l[:]) // known to be right
	for i := range 32 { // two of them never occur
		l[i] = 5
	}
	_ = f.dist.set(l[:32])
}

// counts begins a block with codes of its own (RFC 1951 §3.2.7).
func (f *inflater) counts([]byte) (int, error) {
	if err := f.need(14); err != nil {
		return 0, err
	}
	f.nlit = f.take(5) + 257
	f.nlengths = f.nlit + f.take(5) + 1
	f.ncodes = f.take(4) + 4
	if f.nlit > 286 || f.nlengths-f.nlit > 30 {
		return 0, errDeflate
	}
	clear(f.lengths[:])
	f.read = 0
	f.step = (*inflater).codeLengths
	return 0, nil
}

// codeLengths reads the code that the lengths of the two other codes are written in.
func (f *inflater) codeLengths([]byte) (int, error) {
	for ; f.read < f.ncodes; f.read++ {
		if err := f.need(3); err != nil {
			return 0, err
		}
		f.lengths["\x10\x11\x12\x00\x08\x07\x09\x06\x0a\x05\x0b\x04\x0c\x03\x0d\x02\x0e\x01\x0f"[f.read]] = byte(f.take(3))
	}
	if err := f.lit.set(f.lengths[:19]); err != nil {
		return 0, err
	}
	clear(f.lengths[:])
	f.read = 0
	f.step = (*inflater).symbolLengths
	return 0, nil
}

// symbolLengths reads the lengths of both codes.
func (f *inflater) symbolLengths([]byte) (int, error) {
	for f.read < f.nlengths {
		symbol, n, err := f.lit.peek(f)
		if err != nil {
			return 0, err
		}
		if symbol < 16 {
			f.take(n)
			f.lengths[f.read] = byte(symbol)
			f.read++
			continue
		}
		extra, times, length := uint(2), 3, byte(0)
		switch symbol {
		case 16:
			if f.read == 0 {
				return 0, errDeflate
			}
			length = f.lengths[f.read-1]
		case 17:
			extra = 3
		default:
			extra, times = 7, 11
		}
		if err := f.need(n + extra); err != nil {
			return 0, err
		}
		f.take(n)
		times += f.take(extra)
		if f.read+times > f.nlengths {
			return 0, errDeflate
		}
		for range times {
			f.lengths[f.read] = length
			f.read++
		}
	}
	if err := f.lit.set(f.lengths[:f.nlit]); err != nil {
		return 0, err
	}
	if err := f.dist.set(f.lengths[f.nlit:f.nlengths]); err != nil {
		return 0, err
	}
	f.step = (*inflater).symbol
	return 0, nil
}

// symbol reads literals until a length or the block's end (RFC 1951 §3.2.5).
func (f *inflater) symbol(p []byte) (n int, err error) {
	for n < len(p) {
		symbol, bits, err := f.lit.peek(f)
		if err != nil {
			return n, err
		}
		switch {
		case symbol < 256:
			f.take(bits)
			f.emit(p[n:], byte(symbol))
			n++
			continue
		case symbol == 256:
			f.take(bits)
			f.step = (*inflater).block
			return n, nil
		case symbol > 285:
			return n, errDeflate
		}
		base, extra := lengthCode(symbol - 257)
		if err := f.need(bits + extra); err != nil {
			return n, err
		}
		f.take(bits)
		f.length = base + f.take(extra)
		f.step = (*inflater).reach
		return n, nil
	}
	return n, nil
}

// lengthCode is a row of the table of lengths: four codes share a count of extra bits.
func lengthCode(i int) (base int, extra uint) {
	switch {
	case i < 8:
		return 3 + i, 0
	case i == 28:
		return 258, 0
	}
	extra = uint(i/4 - 1)
	return 3 + (4+i%4)<<extra, extra
}

// reach reads the distance of a copy: two codes share a count of extra bits.
func (f *inflater) reach([]byte) (int, error) {
	symbol, bits, err := f.dist.peek(f)
	if err != nil {
		return 0, err
	}
	if symbol > 29 {
		return 0, errDeflate
	}
	base, extra := 1+symbol, uint(0)
	if symbol > 3 {
		extra = uint(symbol/2 - 1)
		base = 1 + (2+symbol%2)<<extra
	}
	if err := f.need(bits + extra); err != nil {
		return 0, err
	}
	f.take(bits)
	f.distance = base + f.take(extra)
	if int64(f.distance) > f.written {
		return 0, errDeflate
	}
	f.step = (*inflater).copy
	return 0, nil
}

func (f *inflater) copy(p []byte) (n int, err error) {
	for ; f.length > 0 && n < len(p); f.length-- {
		f.emit(p[n:], f.window[(f.written-int64(f.distance))%int64(len(f.window))])
		n++
	}
	if f.length == 0 {
		f.step = (*inflater).symbol
	}
	return n, nil
}

// huffman is a canonical code (RFC 1951 §3.2.2). Commands are short: codes are
// read bit by bit, which wants no table of 32 KiB for each block.
type huffman struct {
	count  [16]uint16 // how many symbols have a code of this many bits
	symbol [288]uint16
}

// set makes the code of the symbols' lengths. A code that has one symbol alone,
// or none, may be incomplete.
func (h *huffman) set(lengths []byte) error {
	h.count = [16]uint16{}
	for _, l := range lengths {
		h.count[l]++
	}
	var next [16]uint16
	left := 1
	for l := 1; l < 16; l++ {
		left = left<<1 - int(h.count[l])
		if left < 0 {
			return errDeflate
		}
		if l < 15 {
			next[l+1] = next[l] + h.count[l]
		}
	}
	if left > 0 && len(lengths)-int(h.count[0]) > 1 {
		return errDeflate
	}
	for symbol, l := range lengths {
		if l > 0 {
			h.symbol[next[l]] = uint16(symbol)
			next[l]++
		}
	}
	return nil
}

// peek finds the next symbol and how many bits its code has, and takes none.
func (h *huffman) peek(f *inflater) (symbol int, bits uint, err error) {
	code, first, index := 0, 0, 0
	for bits = 1; bits < 16; bits++ {
		if err := f.need(bits); err != nil {
			return 0, 0, err
		}
		code |= int(f.bits >> (bits - 1) & 1)
		count := int(h.count[bits])
		if code-first < count {
			return int(h.symbol[index+code-first]), bits, nil
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0, errDeflate
}
