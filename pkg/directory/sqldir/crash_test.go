package sqldir

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailsrv/pkg/directory"
)

// cycles is how often the crash test kills the server: -args -cycles=200 for
// the long run.
var cycles = flag.Int("cycles", 5, "kills of the directory's process")

// TestKilledDirectory kills a child that adds, changes, renames and removes
// entries and reports each step once it was acknowledged. Afterwards every
// acknowledged step is there, none is half there, and the indexes are what the
// entries say.
func TestKilledDirectory(t *testing.T) {
	if path := os.Getenv("SQLDIR_TEST_CHILD"); path != "" {
		work(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "directory.db")
	d, err := Open(t.Context(), path, Options{})
	must(t, err)
	add(d, "o=x", attr("objectClass", "organization"))(t)
	add(d, "cn=all,o=x", attr("objectClass", "groupOfNames"))(t)
	must(t, d.Close())
	all := map[string]int{} // the last acknowledged step of each entry
	for cycle := range *cycles {
		acked := map[string]int{}
		runUntilKilled(t, path, 20+30*(cycle%7), acked)
		maps.Copy(all, acked) // each child has names of its own
		if cycle%20 == 19 || cycle == *cycles-1 {
			acked = all // what earlier children did is still there, looked at now and then
		}
		d, err := Open(t.Context(), path, Options{})
		must(t, err)
		checkIndexes(t, d)
		for name, step := range acked {
			if got := d.step(t, name); got < step || got > step+1 {
				t.Errorf("cycle %d: %s is at step %d, acknowledged was %d", cycle, name, got, step)
			}
		}
		must(t, d.Close())
	}
	if len(all) < 10*min(*cycles, 5) {
		t.Errorf("only %d entries were acknowledged", len(all))
	}
}

// runUntilKilled runs the child and kills it after so many acknowledgements.
func runUntilKilled(t *testing.T, path string, after int, acked map[string]int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=TestKilledDirectory$")
	child.Env = append(os.Environ(), "SQLDIR_TEST_CHILD="+path)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		var name string
		var step int
		if _, err := fmt.Sscanf(lines.Text(), "ack %s %d", &name, &step); err == nil {
			acked[name] = max(acked[name], step)
		} else {
			t.Log(lines.Text())
		}
		if n == after {
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait()
}

// step tells how far the entry has come: 1 added, 2 changed, 3 in the group,
// 4 renamed (the group follows), 5 removed (from the group too).
func (d *Dir) step(t *testing.T, name string) int {
	t.Helper()
	old, renamed := len(d.names(t, "(entryDN=uid="+name+",o=x)")), len(d.names(t, "(entryDN=uid=r"+name+",o=x)"))
	inGroup := func(uid string) int { return len(d.names(t, "(member=uid="+uid+",o=x)")) }
	switch {
	case old+renamed > 1:
		t.Errorf("%s is there twice", name)
	case renamed == 1 && (inGroup("r"+name) != 1 || inGroup(name) != 0):
		t.Errorf("%s was renamed, and the group does not follow", name)
	case renamed == 1:
		return 4
	case old == 0 && inGroup(name)+inGroup("r"+name) > 0:
		t.Errorf("%s is gone, and still in the group", name)
	case old == 0:
		return 5
	case inGroup(name) == 1:
		return 3
	case len(d.names(t, "(&(uid="+name+")(title=changed))")) == 1:
		return 2
	}
	return 1
}

// work is the child: it works until it is killed.
func work(t *testing.T, path string) {
	d, err := Open(t.Context(), path, Options{})
	must(t, err)
	group := directory.MustParseDN("cn=all,o=x")
	var mu sync.Mutex
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("u%d-%d-%d", os.Getpid(), g, i)
				dn, renamed := directory.MustParseDN("uid="+name+",o=x"), directory.MustParseDN("uid=r"+name+",o=x")
				for step, do := range []func(context.Context) error{
					func(ctx context.Context) error {
						return d.Add(ctx, directory.Entry{DN: dn, Attributes: []directory.Attribute{attr("objectClass", "inetOrgPerson"), attr("cn", strings.ToUpper(name)), attr("sn", name)}})
					},
					func(ctx context.Context) error {
						return d.Modify(ctx, dn, []directory.Change{{Kind: directory.ReplaceValues, Attribute: attr("title", "changed")}})
					},
					func(ctx context.Context) error {
						return d.Modify(ctx, group, []directory.Change{{Kind: directory.AddValues, Attribute: attr("member", dn.String())}})
					},
					func(ctx context.Context) error {
						return d.Rename(ctx, dn, renamed.RDNs[0], true, nil)
					},
					func(ctx context.Context) error { return d.Delete(ctx, renamed) },
				} {
					if (g+i)%5 < step { // not all come to the end
						break
					}
					must(t, do(context.Background()))
					mu.Lock()
					fmt.Println("ack", name, step+1)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}
