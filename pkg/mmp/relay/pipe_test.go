package relay

import "testing"

// FuzzBorder: however a stream is cut into pieces, its borders are the same.
func FuzzBorder(f *testing.F) {
	f.Add([]byte("* 1 FETCH (BODY[] {5}\r\nabc\r\n)\r\n* BYE x\r\n"), uint8(3))
	f.Add([]byte("* OK {99999999999999999999}\r\n{1}\r\n"), uint8(1))
	f.Add([]byte("a OK\nb {0}\r\n\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, size uint8) {
		var whole, pieces border
		whole.pass(stream)
		for rest := stream; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			pieces.pass(rest[:n])
			rest = rest[n:]
		}
		if whole.clear() != pieces.clear() || whole.bye != pieces.bye || whole.literal != pieces.literal {
			t.Fatalf("whole %+v, in pieces %+v", whole, pieces)
		}
		if len(whole.line) > maxMarker || whole.literal < 0 {
			t.Fatalf("kept %+v", whole)
		}
	})
}
