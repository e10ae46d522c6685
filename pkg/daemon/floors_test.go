package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// roots are on their floors, the highest number on top; ground is 0.
func roots() map[string]int {
	return map[string]int{"mta": 4, "mmp": 4, "store": 3, "auth": 2, "directory": 1}
}

func isGround(path string) bool {
	root, _, _ := strings.Cut(path, "/")
	return slices.Contains([]string{"mail", "mime", "wire", "sqlite", "blob", "listen", "password", "ldif", "thread", "trigram", "schema"}, root)
}

// TestFloors holds the rules by which packages import each other: imports only
// run down, and no leaf imports another.
func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "mailsrv/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	floors, seen := roots(), 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from, ok := strings.CutPrefix(p.ImportPath, "mailsrv/pkg/")
		if !ok || from == "daemon" {
			continue // main, cmd and the roof may import what is below them
		}
		for _, i := range p.Imports {
			to, ok := strings.CutPrefix(i, "mailsrv/pkg/")
			if !ok {
				continue
			}
			floor, isRoot := floors[to]
			own, fromRoot := floors[from]
			suite := strings.HasSuffix(from, "test")
			switch {
			case to == "config" || to == "daemon":
				t.Errorf("%s imports %s: only cmd and the roof may", from, to)
			case isGround(from) && to != "mail" && to != "wire":
				t.Errorf("ground package %s imports %s", from, to)
			case isGround(to), isRoot && !fromRoot:
			case fromRoot && isRoot && floor < own:
			case suite && isRoot:
			default:
				t.Errorf("%s imports %s: a root imports lower roots, a leaf no leaf", from, to)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d packages were looked at", seen)
	}
}
