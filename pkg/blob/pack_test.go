package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
)

func openPacks(t testing.TB, dir string, limit int64) *Packs {
	t.Helper()
	p, err := OpenPacks(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.limit = limit
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func packed(i, size int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%07d\n", i), size/8+1)[:size] }

func readPacked(t testing.TB, p *Packs, at Place, size int) []byte {
	t.Helper()
	b, err := p.Open(at, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPacksGiveBackWhatTheyTook: from many at once, over several packs, and
// after another has opened them and appended.
func TestPacksGiveBackWhatTheyTook(t *testing.T) {
	dir := t.TempDir()
	p := openPacks(t, dir, 100_000)
	places := make([]Place, 100)
	var wg sync.WaitGroup
	for i := range places[:90] {
		wg.Go(func() {
			var err error
			if places[i], err = p.Append(packed(i, 1000*(i%12)+i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append([]byte("late")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("appended to closed packs: %v", err)
	}
	p = openPacks(t, dir, 100_000)
	for i := 90; i < 100; i++ {
		var err error
		if places[i], err = p.Append(packed(i, 1000*(i%12)+i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, at := range places {
		if size := 1000*(i%12) + i; !bytes.Equal(readPacked(t, p, at, size), packed(i, size)) {
			t.Errorf("other bytes came back for body %d at %v", i, at)
		}
	}
	if n, err := p.numbers(); err != nil || len(n) < 4 {
		t.Errorf("packs %v %v", n, err)
	}
	if _, err := p.Open(Place{Pack: 1}, 1<<30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a body longer than its pack: %v", err)
	}
	if _, err := p.Open(Place{Pack: 99}, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a body of no pack: %v", err)
	}
}

// blocks is how much of the disk the packs take, in bytes.
func blocks(t *testing.T, p *Packs) (n int64) {
	t.Helper()
	numbers, err := p.numbers()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range numbers {
		st, err := os.Stat(p.path(k))
		if err != nil {
			t.Fatal(err)
		}
		n += st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return n
}

func punches(t *testing.T) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 2*packBlock)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), punchHole(f, 0, packBlock)); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "linux" || st.Sys().(*syscall.Stat_t).Blocks*512 >= 2*packBlock {
		t.Skip("the file system makes no holes")
	}
}

// TestFreedRoomIsGivenBack: at once, or when the last reader has closed the
// body; its neighbours stay as they are.
func TestFreedRoomIsGivenBack(t *testing.T) {
	punches(t)
	p := openPacks(t, t.TempDir(), 1<<20)
	const size = 10_000
	var places []Place
	for i := range 3 {
		at, err := p.Append(packed(i, size))
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, at)
	}
	full := blocks(t, p)
	read, err := p.Open(places[1], size)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Free(places[0], size), p.Free(places[1], size)); err != nil {
		t.Fatal(err)
	}
	if got := blocks(t, p); got != full-3*packBlock {
		t.Errorf("%d bytes after one was freed and one is read, of %d", got, full)
	}
	if all, err := io.ReadAll(read); err != nil || !bytes.Equal(all, packed(1, size)) {
		t.Errorf("a body changed under its reader: %v", err)
	}
	if err := read.Close(); err != nil {
		t.Fatal(err)
	}
	if got := blocks(t, p); got != full-6*packBlock {
		t.Errorf("%d bytes after the last reader went, of %d", got, full)
	}
	if !bytes.Equal(readPacked(t, p, places[2], size), packed(2, size)) {
		t.Error("a neighbour changed")
	}
}

// TestSweepTakesWhatNobodyNames, of what was there before the packs were opened.
func TestSweepTakesWhatNobodyNames(t *testing.T) {
	punches(t)
	dir := t.TempDir()
	const size = 10_000
	p := openPacks(t, dir, 40_000)
	var places []Place
	put := func(n int) {
		for range n {
			at, err := p.Append(packed(len(places), size))
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, at)
		}
	}
	put(8) // three in each of packs 1 and 2, two in pack 3
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = openPacks(t, dir, 40_000)
	put(3) // not named so far, as a delivery on its way
	named := []int{4, 7}
	if err := p.Sweep(func(pack int64) (list []Extent, err error) {
		for _, i := range named {
			if places[i].Pack == pack {
				list = append(list, Extent{places[i].Offset, size})
			}
		}
		return list, nil
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := p.numbers(); err != nil || slices.Contains(n, 1) || len(n) != 3 {
		t.Errorf("packs %v %v", n, err)
	}
	for i, at := range places[4:] {
		i += 4
		kept := i >= 8 || slices.Contains(named, i)
		if got := bytes.Equal(readPacked(t, p, at, size), packed(i, size)); got != kept {
			t.Errorf("body %d at %v kept: %v", i, at, got)
		}
	}
}

func TestFailedSyncIsTold(t *testing.T) {
	p := openPacks(t, t.TempDir(), 1<<20)
	if _, err := p.Append(packed(1, 100)); err != nil {
		t.Fatal(err)
	}
	if err := p.active.file.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(packed(2, 100)); err == nil {
		t.Error("a body that could not be written was taken")
	}
	p.active = nil // which cannot be closed once more
}

func BenchmarkAppend(b *testing.B) {
	for _, kind := range []string{"packs", "files"} {
		for _, writers := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s/%d", kind, writers), func(b *testing.B) {
				p := openPacks(b, b.TempDir(), packSize)
				f, err := OpenFolder(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(100 << 10)
				b.SetParallelism((writers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
				var n int
				var mu sync.Mutex
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						mu.Lock()
						n++
						body := packed(n, 100<<10)
						mu.Unlock()
						var err error
						if kind == "packs" {
							_, err = p.Append(body)
						} else {
							var file *File
							if file, err = f.Create(); err == nil {
								_, _ = file.Write(body)
								err = file.Keep(Digest(body[:32]))
							}
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
