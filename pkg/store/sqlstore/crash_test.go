package sqlstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

var crashCycles = flag.Int("crash.cycles", 14, "how often TestCrash kills the store")

// crashPoints are where a store that is told to dies; crashWork is at what.
var (
	crashPoints = []string{"written", "flush", "committed", "published", "file", "pack"}
	crashWork   = []string{"deliver", "append", "flags", "copy", "move", "expunge", "rename"}
)

const crashInline = 2000

// crashSize is by turns that of a body in the database, in a pack and in its file.
func crashSize(turn int) int { return []int{500, 3 * crashInline / 2, 3 * crashInline}[turn%3] }

func openCrash(dir string, at func(string)) (*Store, error) {
	return Open(context.Background(), Options{Dir: dir, InlineLimit: crashInline, PackLimit: 2 * crashInline, Keep: time.Hour, listFrom: 1, Mailboxes: DefaultMailboxes(), at: at})
}

func crashBody(id, size int) mail.Bytes {
	head := storetest.Message(fmt.Sprintf("%d@crash", id), "crash")
	return append(head, strings.Repeat(fmt.Sprintf("%07d\r\n", id), max(0, size-len(head))/9)...)
}

// crashChild does what it reads, a line each: number, account, mailbox, work
// and arguments; "!" before the work has it die at the given point. What is
// done durably it answers with the number.
func crashChild(dir, point string) error {
	var armed sync.Map
	s, err := openCrash(dir, func(p string) {
		if _, on := armed.Load(p); on {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f := strings.Fields(in.Text())
		work, kill := strings.CutPrefix(f[3], "!")
		if kill {
			armed.Store(point, true)
		}
		go func() {
			if err := crashDo(s, f[1], f[2], work, f[4:]); err != nil {
				fmt.Println("failed", f[0], err)
				return
			}
			fmt.Println("done", f[0])
		}()
	}
	return nil
}

func crashDo(s *Store, account, name, work string, args []string) error {
	ctx := context.Background()
	num := func(i int) int { n, _ := strconv.Atoi(args[i]); return n }
	set := func(i int) store.UIDSet {
		return store.NewUIDSet([]store.UIDRange{{First: store.UID(num(i)), Last: store.UID(num(i + 1))}})
	}
	a, err := s.Account(ctx, account)
	if err != nil {
		return err
	}
	if work == "deliver" {
		return s.Deliver(ctx, mail.TraceID("trace"+args[0]), crashBody(num(0), num(1)), []store.Target{{Account: account, Quota: store.NoQuota()}})[0]
	}
	if work == "rename" {
		return a.Rename(ctx, name, args[0])
	}
	m, err := a.Open(ctx, name)
	if err != nil {
		return err
	}
	switch work {
	case "append":
		_, err = m.Append(ctx, crashBody(num(0), num(1)), store.Flags{System: store.Seen}, time.Time{}, store.NoQuota())
	case "flags":
		_, err = m.StoreFlags(ctx, set(0), store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.SystemFlags(num(2))}}, 0)
	case "copy":
		_, err = m.Copy(ctx, set(0), args[2], store.NoQuota())
	case "move":
		_, err = m.Move(ctx, set(0), args[2])
	case "expunge":
		_, err = m.Expunge(ctx, set(0))
	}
	return err
}

// ledger is what an account must hold, by mailbox and UID, kept apart from the
// store that it judges.
type ledger map[string]ledgerBox

type ledgerBox struct {
	Next     store.UID
	Messages map[store.UID]ledgerMessage
}

type ledgerMessage struct {
	Sum   string
	Flags store.SystemFlags
}

func (l ledger) clone() ledger {
	out := ledger{}
	for name, b := range l {
		out[name] = ledgerBox{b.Next, maps.Collect(maps.All(b.Messages))}
	}
	return out
}

func (l ledger) add(name string, m ledgerMessage) {
	b, ok := l[name]
	if !ok {
		b = ledgerBox{Next: 1, Messages: map[store.UID]ledgerMessage{}}
	}
	b.Messages[b.Next] = m
	b.Next++
	l[name] = b
}

// after returns the account as the work leaves it.
func (l ledger) after(name, work string, args []string) ledger {
	out := l.clone()
	num := func(i int) int { n, _ := strconv.Atoi(args[i]); return n }
	sum := func(prefix string) string {
		return fmt.Sprintf("%x", sha256.Sum256(append([]byte(prefix), crashBody(num(0), num(1))...)))
	}
	var chosen []store.UID
	if work != "deliver" && work != "append" && work != "rename" {
		for _, uid := range slices.Sorted(maps.Keys(out[name].Messages)) {
			if int(uid) >= num(0) && int(uid) <= num(1) {
				chosen = append(chosen, uid)
			}
		}
	}
	box := out[name]
	switch work {
	case "deliver":
		out.add("INBOX", ledgerMessage{Sum: sum("Return-Path: <>\r\n")})
	case "append":
		out.add(name, ledgerMessage{Sum: sum(""), Flags: store.Seen})
	case "rename":
		if name == "INBOX" {
			out[args[0]] = ledgerBox{Next: 1, Messages: map[store.UID]ledgerMessage{}}
			for _, uid := range slices.Sorted(maps.Keys(box.Messages)) {
				out.add(args[0], box.Messages[uid])
				delete(box.Messages, uid)
			}
		} else {
			out[args[0]] = box
			delete(out, name)
		}
	}
	for _, uid := range chosen {
		m := box.Messages[uid]
		switch work {
		case "flags":
			m.Flags |= store.SystemFlags(num(2))
			box.Messages[uid] = m
		case "copy", "move":
			out.add(args[2], m)
			if work == "move" {
				delete(box.Messages, uid)
			}
		case "expunge":
			if m.Flags&store.Deleted != 0 {
				delete(box.Messages, uid)
			}
		}
	}
	return out
}

// read is the account as the store has it.
func readLedger(t *testing.T, s *Store, account string, seqs map[string]store.ModSeq) ledger {
	t.Helper()
	a, err := s.Account(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	list, err := a.Mailboxes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := ledger{}
	for _, e := range list {
		m, err := a.Open(t.Context(), e.Name)
		if err != nil {
			continue // only a name
		}
		st, err := m.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(account, m.ID())
		if st.HighestModSeq < seqs[id] {
			t.Errorf("%s %s: HIGHESTMODSEQ went from %d to %d", account, e.Name, seqs[id], st.HighestModSeq)
		}
		seqs[id] = st.HighestModSeq
		box := ledgerBox{st.UIDNext, map[store.UID]ledgerMessage{}}
		for msg, err := range m.Messages(t.Context(), store.AllUIDs(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			b, err := m.Body(t.Context(), msg.UID)
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(b, 0, b.Size())); err != nil {
				t.Error(err)
			}
			b.Close()
			box.Messages[msg.UID] = ledgerMessage{fmt.Sprintf("%x", h.Sum(nil)), msg.Flags.System}
		}
		out[e.Name] = box
	}
	return out
}

// driver gives one account work, one piece after the other, and keeps its ledger.
type driver struct {
	account string
	held    ledger
	// pending is the work that was given and not answered.
	pending []string
	rand    *rand.Rand
	bodies  *int
}

func (d *driver) next(work string) []string {
	names := slices.Sorted(maps.Keys(d.held))
	name := names[d.rand.IntN(len(names))]
	if d.rand.IntN(2) == 0 || work == "deliver" {
		name = "INBOX"
	}
	last := int(d.held[name].Next)
	from := 1 + d.rand.IntN(last)
	span := []string{strconv.Itoa(from), strconv.Itoa(from + d.rand.IntN(8))}
	to := names[d.rand.IntN(len(names))]
	switch work {
	case "deliver", "append":
		*d.bodies++
		size := crashSize(max(0, d.rand.IntN(4)-1))
		return []string{name, work, strconv.Itoa(*d.bodies), strconv.Itoa(size)}
	case "flags":
		return append([]string{name, work}, append(span, strconv.Itoa(1<<d.rand.IntN(4)))...)
	case "copy", "move":
		return append([]string{name, work}, append(span, to)...)
	case "rename":
		return []string{name, work, fmt.Sprintf("Renamed%d", d.rand.IntN(1_000_000))}
	}
	return append([]string{name, work}, span...)
}

// cycle runs a child for a while and kills it, or has it die at a point of the
// work; every driver is left with at most one piece unanswered.
func crashCycle(t *testing.T, dir string, cycle int, drivers []*driver) {
	point, last := crashPoints[cycle/2%len(crashPoints)], crashWork[cycle/2%len(crashWork)]
	child := exec.Command(os.Args[0], "-test.run=TestCrash$")
	child.Env = append(os.Environ(), "SQLSTORE_CRASH="+dir, "SQLSTORE_CRASH_POINT="+point)
	child.Stderr = os.Stderr
	in, err1 := child.StdinPipe()
	out, err2 := child.StdoutPipe()
	if err := errors.Join(err1, err2, child.Start()); err != nil {
		t.Fatal(err)
	}
	answers := make([]chan bool, len(drivers))
	for i := range answers {
		answers[i] = make(chan bool, 1)
	}
	ready := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if f[0] == "ready" {
				close(ready)
			} else if n, err := strconv.Atoi(f[1]); err == nil && f[0] == "done" {
				answers[n] <- true
			} else {
				t.Error(lines.Text())
				answers[n] <- false
			}
		}
		for _, a := range answers {
			close(a)
		}
	})
	<-ready
	var say sync.Mutex
	give := func(i int, work []string, kill string) bool {
		d := drivers[i]
		d.pending = work
		say.Lock()
		fmt.Fprintln(in, i, d.account, work[0], kill+work[1], strings.Join(work[2:], " "))
		say.Unlock()
		ok, alive := <-answers[i]
		if alive && ok {
			d.held, d.pending = d.held.after(work[0], work[1], work[2:]), nil
		}
		return alive && ok
	}
	atPoint := cycle%2 == 1
	until := time.Now().Add(time.Duration(10+drivers[0].rand.IntN(80)) * time.Millisecond)
	var all sync.WaitGroup
	var mu sync.Mutex // of bodies
	for i, d := range drivers {
		all.Go(func() {
			for !atPoint || time.Now().Before(until) {
				mu.Lock()
				work := d.next(crashWork[d.rand.IntN(len(crashWork))])
				mu.Unlock()
				if !give(i, work, "") {
					return
				}
			}
		})
	}
	if !atPoint {
		time.AfterFunc(time.Until(until), func() { _ = child.Process.Kill() })
	}
	all.Wait()
	if atPoint && give(0, drivers[0].next(last), "!") {
		_ = child.Process.Kill() // the work never came to that point
	}
	reader.Wait()
	_ = child.Wait()
}

// TestCrash kills a store again and again, at random and at named points of
// all that it does, and holds what it acknowledged, and no more than one piece
// of unacknowledged work an account and that whole or not at all, against what
// is there.
func TestCrash(t *testing.T) {
	if dir := os.Getenv("SQLSTORE_CRASH"); dir != "" {
		if err := crashChild(dir, os.Getenv("SQLSTORE_CRASH_POINT")); err != nil {
			t.Fatal(err)
		}
		return
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dir, bodies := t.TempDir(), 0
	drivers := make([]*driver, 4)
	seqs := map[string]store.ModSeq{}
	for i := range drivers {
		drivers[i] = &driver{account: fmt.Sprintf("a%d@x", i), rand: rand.New(rand.NewPCG(seed, uint64(i))), bodies: &bodies}
	}
	check := func(cycle int) {
		s, err := openCrash(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, d := range drivers {
			got := readLedger(t, s, d.account, seqs)
			switch diff := cmp.Diff(d.held, got); {
			case d.held == nil || diff == "":
			case d.pending != nil && cmp.Equal(d.held.after(d.pending[0], d.pending[1], d.pending[2:]), got):
			default:
				t.Errorf("cycle %d, %s, unanswered %q (-acknowledged +there):\n%s", cycle, d.account, d.pending, diff)
			}
			d.held = got
			if d.pending != nil && d.pending[1] == "deliver" { // the MTA tries again
				d.again(t, s)
			}
			d.pending = nil
		}
		if lines, _ := verify(t, s.Verify); len(lines) > 0 {
			t.Errorf("cycle %d: verify: %q", cycle, lines)
		}
	}
	check(0)
	for cycle := range *crashCycles {
		crashCycle(t, dir, cycle, drivers)
		check(cycle)
		if t.Failed() {
			return
		}
	}
}

// again delivers what may have been delivered, and wants it there once.
func (d *driver) again(t *testing.T, s *Store) {
	t.Helper()
	work := d.pending
	if err := crashDo(s, d.account, work[0], work[1], work[2:]); err != nil {
		t.Fatal(err)
	}
	want := d.held
	n, _ := strconv.Atoi(work[2])
	size, _ := strconv.Atoi(work[3])
	sum := fmt.Sprintf("%x", sha256.Sum256(append([]byte("Return-Path: <>\r\n"), crashBody(n, size)...)))
	there := slices.ContainsFunc(slices.Collect(maps.Values(want["INBOX"].Messages)), func(m ledgerMessage) bool { return m.Sum == sum })
	if !there {
		want = want.after(work[0], work[1], work[2:])
	}
	d.held = readLedger(t, s, d.account, map[string]store.ModSeq{})
	if diff := cmp.Diff(want, d.held); diff != "" {
		t.Errorf("delivered again (-want +there):\n%s", diff)
	}
}
