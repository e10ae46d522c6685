package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Place is where a body lies in Packs: in which pack, and from which octet on.
// The zero value is no place; whoever keeps a Place keeps the body's size too.
type Place struct{ Pack, Offset int64 }

// IsZero reports whether p is no place.
func (p Place) IsZero() bool { return p.Pack == 0 }

const (
	// packSize is where a pack ends and the next begins, in bytes.
	packSize = 256 << 20
	// packBlock is what bodies in a pack are aligned to, so that the room of
	// one can be given back without its neighbours.
	packBlock = 4096
)

// Packs holds bodies of some size one behind the other in a few large files:
// those that come in at the same time share one sync, and none needs a name of
// its own. It keeps no index; who appends a body remembers its Place, and frees
// it once. It may be used from many goroutines.
type Packs struct {
	dir   string
	limit int64

	// sealed is the number of the pack that was the newest at OpenPacks, and base
	// how much of it was there: only what lies before can be swept.
	sealed, base int64

	mu     sync.Mutex
	active *pack // nil until the first Append
	// open counts the readers of each place; a place that is freed meanwhile
	// waits in freed, with its size, for the last of them.
	open  map[Place]int
	freed map[Place]int64
}

// pack is a file that is being appended to.
type pack struct {
	number int64
	file   *os.File
	end    int64 // of what was given away
	// users are appends on their way; retired: another pack took its place.
	users   int
	retired bool

	// turn is held by whoever syncs; next is the sync that has not begun.
	turn chan struct{}
	mu   sync.Mutex
	next *round
}

// round is one sync, for all who wrote before it began.
type round struct {
	done chan struct{}
	err  error
}

// OpenPacks opens the folder at dir and makes it if it is missing. The caller
// closes it.
func OpenPacks(dir string) (*Packs, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening packs: %w", err)
	}
	p := &Packs{dir: dir, limit: packSize, open: map[Place]int{}, freed: map[Place]int64{}}
	numbers, err := p.numbers()
	if err != nil || len(numbers) == 0 {
		return p, err
	}
	p.sealed = numbers[len(numbers)-1]
	st, err := os.Stat(p.path(p.sealed))
	if err != nil {
		return nil, fmt.Errorf("opening packs: %w", err)
	}
	p.base = aligned(st.Size())
	return p, nil
}

func (p *Packs) path(number int64) string {
	return filepath.Join(p.dir, fmt.Sprintf("%08d.pack", number))
}

// numbers lists the packs on disk, ascending.
func (p *Packs) numbers() ([]int64, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("listing packs: %w", err)
	}
	var numbers []int64
	for _, e := range entries {
		var n int64
		if _, err := fmt.Sscanf(e.Name(), "%d.pack", &n); err == nil && n > 0 && filepath.Base(p.path(n)) == e.Name() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func aligned(n int64) int64 { return (n + packBlock - 1) / packBlock * packBlock }

// Append stores a body durably and returns its place. After ErrSync the disk is
// not to be trusted until the process starts again.
func (p *Packs) Append(body []byte) (Place, error) {
	k, at, err := p.reserve(int64(len(body)))
	if err != nil {
		return Place{}, fmt.Errorf("storing body: %w", err)
	}
	place := Place{k.number, at}
	if _, err = k.file.WriteAt(body, at); err == nil {
		err = k.sync()
	}
	if err = errors.Join(err, p.leave(k)); err != nil {
		return Place{}, errors.Join(fmt.Errorf("storing body: %w", err), p.Free(place, int64(len(body))))
	}
	return place, nil
}

// reserve gives away room for size bytes at the end of the active pack.
func (p *Packs) reserve(size int64) (*pack, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.active; k == nil || k.end > 0 && k.end+size > p.limit {
		if err := p.turnOver(); err != nil {
			return nil, 0, err
		}
	}
	k := p.active
	if k.retired {
		return nil, 0, fs.ErrClosed
	}
	at := k.end
	k.end = aligned(at + size)
	k.users++
	return k, at, nil
}

// turnOver makes the newest pack active, or a new one once that is full.
func (p *Packs) turnOver() error {
	number, end := p.sealed, p.base
	if old := p.active; old != nil {
		number, end = old.number+1, 0
	} else if number == 0 || end >= p.limit {
		number, end = number+1, 0
	}
	f, err := os.OpenFile(p.path(number), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syncDir(p.dir); err != nil {
		return errors.Join(ErrSync, err, f.Close())
	}
	if old := p.active; old != nil {
		if old.retired = true; old.users == 0 {
			err = old.file.Close()
		}
	}
	p.active = &pack{number: number, file: f, end: end, turn: make(chan struct{}, 1), next: &round{done: make(chan struct{})}}
	return err
}

// leave ends an append. Whoever leaves a retired pack last closes it.
func (p *Packs) leave(k *pack) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.users--; k.users == 0 && k.retired {
		return k.file.Close()
	}
	return nil
}

// sync returns when what was written before is durable: by a sync that began
// since, of this goroutine or another's.
func (k *pack) sync() error {
	k.mu.Lock()
	mine := k.next
	k.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case k.turn <- struct{}{}:
	}
	defer func() { <-k.turn }()
	select {
	case <-mine.done: // by who had the turn before
		return mine.err
	default:
	}
	k.mu.Lock()
	k.next = &round{done: make(chan struct{})}
	k.mu.Unlock()
	if err := syncData(k.file); err != nil {
		mine.err = errors.Join(ErrSync, err)
	}
	close(mine.done)
	return mine.err
}

// Packed is an open body.
type Packed struct {
	*io.SectionReader
	file  *os.File
	packs *Packs
	place Place
}

// Open opens the body of size bytes at a place; the caller closes it. Until then
// it stays, even if it is freed. An error matches fs.ErrNotExist if the pack is
// not there or ends before the body does.
func (p *Packs) Open(at Place, size int64) (*Packed, error) {
	f, err := os.Open(p.path(at.Pack))
	if err != nil {
		return nil, fmt.Errorf("opening body: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() < at.Offset+size {
		err = fmt.Errorf("%w: pack %d has %d bytes of %d", fs.ErrNotExist, at.Pack, st.Size(), at.Offset+size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening body: %w", err), f.Close())
	}
	p.mu.Lock()
	p.open[at]++
	p.mu.Unlock()
	return &Packed{io.NewSectionReader(f, at.Offset, size), f, p, at}, nil
}

// Close implements io.Closer.
func (b *Packed) Close() error {
	p := b.packs
	p.mu.Lock()
	size, free := p.freed[b.place]
	if p.open[b.place]--; p.open[b.place] == 0 {
		delete(p.open, b.place)
		delete(p.freed, b.place)
	} else {
		free = false
	}
	p.mu.Unlock()
	err := b.file.Close()
	if free {
		err = errors.Join(err, p.punch(b.place, size))
	}
	return err
}

// Free gives back the room of a body that nobody names any more, at once or
// when its last reader closes it. It is safe to free room twice, as long as no
// other body has it: places are never given away again.
func (p *Packs) Free(at Place, size int64) error {
	p.mu.Lock()
	if p.open[at] > 0 {
		p.freed[at] = size
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	return p.punch(at, size)
}

// punch makes a hole of whole blocks. A pack that is gone has no room to give.
func (p *Packs) punch(at Place, size int64) error {
	f, err := os.OpenFile(p.path(at.Pack), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.Join(punchHole(f, at.Offset, aligned(size)), f.Close())
	}
	if err != nil {
		return fmt.Errorf("freeing body: %w", err)
	}
	return nil
}

// Extent is a part of a pack.
type Extent struct{ Offset, Size int64 }

// Sweep gives back all room that was there when the Packs were opened and that
// named, which lists the bodies of a pack ascending by offset, does not list;
// a pack of then without bodies is removed.
func (p *Packs) Sweep(named func(pack int64) ([]Extent, error)) error {
	numbers, err := p.numbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > p.sealed {
			break
		}
		bodies, err := named(n)
		if err != nil {
			return err
		}
		if p.reading(n, bodies) {
			continue // what was freed meanwhile; the rest at the next start
		}
		if err := p.sweep(n, bodies); err != nil {
			return fmt.Errorf("sweeping packs: %w", err)
		}
	}
	return nil
}

func (p *Packs) sweep(n int64, bodies []Extent) error {
	end := p.base
	if n < p.sealed {
		if len(bodies) == 0 {
			return os.Remove(p.path(n))
		}
		st, err := os.Stat(p.path(n))
		if err != nil {
			return err
		}
		end = aligned(st.Size())
	}
	from := int64(0)
	for _, b := range append(bodies, Extent{Offset: end}) {
		if to := min(b.Offset, end); from < to {
			if err := p.punch(Place{n, from}, to-from); err != nil {
				return err
			}
		}
		from = max(from, aligned(b.Offset+b.Size))
	}
	return nil
}

// reading reports whether somebody reads a body of a pack that is not among bodies.
func (p *Packs) reading(number int64, bodies []Extent) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range p.open {
		if at.Pack == number && !slices.ContainsFunc(bodies, func(e Extent) bool { return e.Offset == at.Offset }) {
			return true
		}
	}
	return false
}

// Close frees the pack that is appended to; nothing may be appended afterwards.
// Bodies that are open stay open.
func (p *Packs) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.active
	if k == nil || k.retired {
		return nil
	}
	if k.retired = true; k.users > 0 {
		return nil // the last of them closes it
	}
	return k.file.Close()
}
