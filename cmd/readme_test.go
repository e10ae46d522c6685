package cmd

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/config"
	"mailsrv/pkg/store/imapserver"
)

// readme is the README's text, and the repository's other files by name.
func repository(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// found lists the first group of each match of a pattern, sorted, each once.
func found(pattern, text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// section is what stands under a heading of the README.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(repository(t, "README.md"), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the README has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

func TestReadmeConfigurations(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(repository(t, "README.md"), -1)
	if len(blocks) != 6 {
		t.Errorf("%d configurations", len(blocks))
	}
	for _, b := range blocks {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(b[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(path); err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
}

func TestReadmeNamesWhatThereIs(t *testing.T) {
	mod, _, _ := strings.Cut(repository(t, "go.mod"), ")")
	tests := []struct {
		name      string
		want, got []string
	}{
		{"direct dependencies", found(`(?m)^\t(\S+) v`, mod), found("(?m)^\\| `([^`]+)`", section(t, "Direct dependencies"))},
		{"metrics", found(`"(mailsrv_\w+)"`, repository(t, "pkg/daemon/metrics.go")), found("(?m)^\\| `(mailsrv_\\w+)", section(t, "Watching it"))},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-there are +the README names):\n%s", tt.name, diff)
		}
	}
	words := section(t, "What it speaks")
	for _, c := range imapserver.New(imapserver.Options{}).Capabilities() {
		if name, _, _ := strings.Cut(c, "=0"); !regexp.MustCompile(`[ (]` + regexp.QuoteMeta(name) + `[, |)]`).MatchString(words) {
			t.Errorf("the README does not name the IMAP extension %s", name)
		}
	}
	for _, c := range newRootCommand().Commands() {
		if !strings.Contains(section(t, "Build, configure, run"), c.Name()) {
			t.Errorf("the README does not name the command %s", c.Name())
		}
	}
}
