package sqlstore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/store"
)

// faultChild appends small and large messages by turns, and says of each what
// became of it.
func faultChild(dir string) {
	s, err := openCrash(dir, nil)
	if err != nil {
		fmt.Println("opening", err)
		return
	}
	ctx := context.Background()
	a, err := s.Account(ctx, "a@x")
	if err != nil {
		fmt.Println("opening", err)
		return
	}
	m, err := a.Open(ctx, "INBOX")
	if err != nil {
		fmt.Println("opening", err)
		return
	}
	fmt.Println("ready")
	for i, left := 0, 10; i < 200 && left > 0; i++ {
		if _, err := m.Append(ctx, crashBody(i, crashSize(i)), store.Flags{}, time.Time{}, store.NoQuota()); err != nil {
			fmt.Println("failed", i, err)
			left--
			continue
		}
		fmt.Println("stored", i)
	}
}

// TestFaults has the system refuse what the store asks of the disk: nothing is
// acknowledged that is not there, and after a failed sync, or a failed write
// that may have been half of a commit, nothing at all until the next start.
func TestFaults(t *testing.T) {
	if dir := os.Getenv("SQLSTORE_FAULT"); dir != "" {
		faultChild(dir)
		return
	}
	if exec.Command("strace", "-f", "-o", "/dev/null", "true").Run() != nil {
		t.Skip("strace is not installed, or may not trace")
	}
	tests := []struct {
		name, inject string
		goesOn       bool
	}{
		{"sync of the database or a pack", "fdatasync:error=EIO:when=%d", false},
		{"sync of the database or a pack for good", "fdatasync:error=EIO:when=%d+", false},
		{"sync of a body's file", "fsync:error=EIO:when=%d", false},
		{"write to the database or a pack", "pwrite64:error=EIO:when=%d", false},
		{"no room in the database or a pack", "pwrite64:error=ENOSPC:when=%d", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var dir string
			stored, after, met := map[int]bool{}, 0, false
			// strace counts each thread's calls by itself: which one meets the
			// fault, and whether the store is open by then, is left to chance.
			for n := 9; !met && n < 300; n += n / 5 {
				dir = t.TempDir()
				stored, after, met = faulty(t, dir, fmt.Sprintf(tt.inject, n))
			}
			if !met {
				t.Fatal("the fault was never met after something was stored")
			}
			if (after > 0) != tt.goesOn {
				t.Errorf("%d acknowledged after the fault", after)
			}
			s, err := openCrash(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			found := map[string]int{}
			for _, m := range readLedger(t, s, "a@x", map[string]store.ModSeq{})["INBOX"].Messages {
				found[m.Sum]++
			}
			for n := range stored {
				want := ledger{"INBOX": {Next: 1}}.after("INBOX", "append", []string{strconv.Itoa(n), strconv.Itoa(crashSize(n))})
				if k := found[want["INBOX"].Messages[1].Sum]; k != 1 {
					t.Errorf("message %d is there %d times", n, k)
				}
			}
			if lines, _ := verify(t, s.Verify); len(lines) > 0 {
				t.Errorf("verify: %q", lines)
			}
		})
	}
}

// faulty runs a child with a fault, and returns what it acknowledged, how much
// of that after the first failure, and whether there was one after a success.
func faulty(t *testing.T, dir, inject string) (stored map[int]bool, after int, met bool) {
	t.Helper()
	child := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync,pwrite64", "-e", "inject="+inject,
		os.Args[0], "-test.run=TestFaults$")
	child.Env = append(os.Environ(), "SQLSTORE_FAULT="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	stored = map[int]bool{}
	failed := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch f := strings.Fields(lines.Text()); f[0] {
		case "stored":
			n, _ := strconv.Atoi(f[1])
			stored[n] = true
			if failed > 0 {
				after++
			}
		case "failed":
			failed++
		}
	}
	_ = child.Wait()
	return stored, after, failed > 0 && len(stored) > 0
}
