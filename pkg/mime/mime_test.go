package mime

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is rendered to testdata/*.want")

// TestMessages compares the renderings of each testdata/*.eml with *.want.
// The files have LF line ends; the messages get CRLF.
func TestMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m := scan(t, crlf(string(raw)))
			var b []byte
			b = append(m.AppendEnvelope(b), '\n')
			b = append(m.AppendBody(b), '\n')
			b = append(m.AppendBodyStructure(b), '\n')
			want := strings.TrimSuffix(file, ".eml") + ".want"
			if *update {
				if err := os.WriteFile(want, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(expected), string(b)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func scan(t testing.TB, s string) *Message {
	t.Helper()
	m, err := Scan(strings.NewReader(s), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Size != int64(len(s)) {
		t.Fatalf("size %d, want %d", m.Size, len(s))
	}
	return m
}
