package imapwire

import (
	"strings"
	"time"
)

// dateTimeLayout is date-time of RFC 3501 §9; the day may be padded with a space.
const dateTimeLayout = "_2-Jan-2006 15:04:05 -0700"

// DateTime reads a quoted date-time.
func (l *Lexer) DateTime() time.Time {
	s := l.String()
	if l.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(dateTimeLayout, s)
	if err != nil || len(s) != len(dateTimeLayout) || t.Year() < 1 {
		l.fail("bad date-time")
		return time.Time{}
	}
	return t
}

// Date reads a date, quoted or not, as midnight UTC of that day.
func (l *Lexer) Date() time.Time {
	s := l.AString()
	if l.err != nil {
		return time.Time{}
	}
	t, err := time.Parse("2-Jan-2006", strings.TrimLeft(s, " "))
	if err != nil {
		l.fail("bad date")
		return time.Time{}
	}
	return t
}

// AppendDateTime appends t, in its own zone, as a quoted date-time.
func AppendDateTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	if day < 10 {
		dst = append(dst, ' ', byte('0'+day))
	} else {
		dst = appendTwo(dst, day)
	}
	dst = append(dst, '-')
	dst = append(dst, month.String()[:3]...)
	dst = append(dst, '-')
	dst = appendTwo(appendTwo(dst, year/100%100), year%100)
	dst = append(dst, ' ')
	dst = append(appendTwo(dst, hour), ':')
	dst = append(appendTwo(dst, minute), ':')
	dst = append(appendTwo(dst, second), ' ')
	_, offset := t.Zone()
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = append(dst, sign)
	dst = appendTwo(appendTwo(dst, offset/3600%100), offset/60%60)
	return append(dst, '"')
}

func appendTwo(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }
