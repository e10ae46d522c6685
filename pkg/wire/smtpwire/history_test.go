package smtpwire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestHistoryGoesThere(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "short": "a\nb\n", "long": strings.Repeat("event é\r\n.\r\n", 20_000)} {
		lines := historyReply([]byte(text))
		if lines == nil {
			t.Fatalf("%s: no reply", name)
		}
		got, err := ParseHistory(Reply{Code: 250, Lines: lines})
		if err != nil || string(got) != text {
			t.Errorf("%s: %d bytes came back, %v", name, len(got), err)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	noise := make([]byte, 1<<20)
	x := uint32(1)
	for i := range noise {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	if lines := historyReply(noise); lines != nil {
		t.Errorf("a reply of %d lines", len(lines))
	}
	bomb := historyReply(bytes.Repeat([]byte{'x'}, maxHistory+1))
	if _, err := ParseHistory(Reply{Code: 250, Lines: bomb}); !errors.Is(err, ErrReply) {
		t.Errorf("a history of %d bytes was read: %v", maxHistory+1, err)
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add(strings.Join(historyReply([]byte("a\n")), "\n"))
	f.Add("history\nAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseHistory(Reply{Code: 250, Lines: strings.Split(text, "\n")})
		if err == nil && len(got) > maxHistory {
			t.Errorf("%d bytes", len(got))
		}
	})
}
