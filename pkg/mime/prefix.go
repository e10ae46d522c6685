package mime

import "encoding/binary"

// PrefixParts appends to dst the table of the same message with n octets of
// header fields put before it: the message's own header grows, and everything
// in the body, whose place is kept relative to it, moves along. ErrTable.
func PrefixParts(dst, table []byte, n int) ([]byte, error) {
	if len(table) < 4 || table[0] != tableVersion || table[2] != 0 {
		return nil, ErrTable
	}
	header, size := binary.Uvarint(table[3:])
	if size <= 0 {
		return nil, ErrTable
	}
	dst = append(dst, table[:3]...)
	dst = binary.AppendUvarint(dst, header+uint64(n))
	return append(dst, table[3+size:]...), nil
}
