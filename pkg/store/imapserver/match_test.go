package imapserver

import (
	"strings"
	"testing"
	"time"
)

func TestPattern(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "a/b", true}, {"%", "a", true}, {"%", "a/b", false}, {"%/%", "a/b", true},
		{"a*b", "ab", true}, {"a*b", "a/x/b", true}, {"a*b", "abc", false}, {"a%b", "a/b", false},
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"%*", "a/b", true}, {"*%", "a/b/", true},
		{"*/%", "a/b/c", true}, {"%/c", "a/b/c", false}, {"inbox", "INBOX", true}, {"InB%", "INBOX", true},
		{"inbox/x", "INBOX/x", false}, {"Archive", "archive", false}, {"ü*", "über", true}, {"u*", "über", false}, {"üb%", "über", true}, {"***%%**x", "abx", true},
	}
	long := strings.Repeat("ab", 100)
	tests = append(tests, []struct {
		pattern, name string
		want          bool
	}{
		{long, long, true}, {long + "*", long + "/x", true}, {long[:63] + "%" + long[63:], long, true}, {long[:64] + "*b", long, true}, {long[:64] + "%c", long, false},
		{long[:127] + "*" + long[128:], long[:127] + "/b/" + long[128:], true}, {long[:127] + "%" + long[128:], long[:127] + "/b/" + long[128:], false},
	}...)
	for _, tt := range tests {
		if got := newPattern(tt.pattern).matches(tt.name); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.name, got)
		}
	}
}

// TestPatternIsNotExponential is row I5: with backtracking a single of these
// names takes minutes.
func TestPatternIsNotExponential(t *testing.T) {
	name := strings.Repeat("a", 200)
	p := newPattern("*a*a*a*a*b")
	begun := time.Now()
	for range 10000 {
		if p.matches(name) {
			t.Fatal("matched")
		}
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("10000 names took %v", took)
	}
}

func BenchmarkPattern(b *testing.B) {
	name := strings.Repeat("a", 200)
	p := newPattern("*a*a*a*a*b")
	for b.Loop() {
		for range 10000 {
			p.matches(name)
		}
	}
}
