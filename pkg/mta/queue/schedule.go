package queue

import (
	"container/heap"
	"time"
)

// schedule holds, for each destination that has pending recipients, when it is
// to be looked at next. It knows no message: its size is the number of
// destinations, not of messages. The Queue's mutex guards it.
type schedule struct {
	byName map[string]*destination
	order  destinations // by wakeAt; without those that wait for a free slot
	// active are the attempts in flight, over all destinations, but for those
	// that are slow: a host that keeps us waiting must not keep others waiting.
	active, slow int
	// most and each bound the attempts in flight, in all and to one destination.
	most, each int
}

const (
	// startEach is how many attempts to a destination run at once at first.
	startEach = 5
	// slowAfter is how long an attempt counts among those of most.
	slowAfter = 250 * time.Millisecond
	// slowShare is how many slow attempts there may be for one of most.
	slowShare = 4
)

// destination is what shares pauses and a bound on concurrency.
type destination struct {
	name string
	// due is when its first pending recipient that is not in flight is due;
	// zero: there is none.
	due    time.Time
	active int
	// window is how many attempts may run at once: it grows by one for each
	// round of them that got through, and starts again after trouble.
	window float64
	// failures counts the attempts in a row that found the host in trouble,
	// and pausedUntil is how long it is left alone for it.
	failures    int
	pausedUntil time.Time
	index       int // in order; -1: not there
}

func newSchedule(most, each int) schedule {
	return schedule{byName: make(map[string]*destination), most: most, each: each}
}

// wakeAt is when the destination wants to be looked at.
func (d *destination) wakeAt() time.Time {
	if d.pausedUntil.After(d.due) {
		return d.pausedUntil
	}
	return d.due
}

// expect says that a recipient of the destination is due at that time.
func (s *schedule) expect(name string, at time.Time) {
	d := s.get(name)
	if d.due.IsZero() || at.Before(d.due) {
		d.due = at
	}
	s.fix(d)
}

func (s *schedule) get(name string) *destination {
	d := s.byName[name]
	if d == nil {
		d = &destination{name: name, index: -1, window: float64(min(startEach, s.each))}
		s.byName[name] = d
	}
	return d
}

// fix puts d where it belongs after a change, and forgets it once nothing
// waits for it.
func (s *schedule) fix(d *destination) {
	ready := !d.due.IsZero() && s.slots(d) > 0
	switch {
	case ready && d.index >= 0:
		heap.Fix(&s.order, d.index)
	case ready:
		heap.Push(&s.order, d)
	case d.index >= 0:
		heap.Remove(&s.order, d.index)
	}
	if d.due.IsZero() && d.active == 0 {
		delete(s.byName, d.name)
	}
}

// slots is how many attempts to d may start now. One that was in trouble gets
// one, until that one got through.
func (s *schedule) slots(d *destination) int {
	if d.failures > 0 {
		return 1 - d.active
	}
	return int(d.window) - d.active
}

// take returns the destination to look at now with n slots that it may use,
// having taken its due time away; or says when there will be one (zero: not
// before something changes). Each slot is given back by finish.
func (s *schedule) take(now time.Time) (d *destination, n int, next time.Time) {
	if s.active >= s.most || len(s.order) == 0 {
		return nil, 0, time.Time{}
	}
	d = s.order[0]
	if at := d.wakeAt(); at.After(now) {
		return nil, 0, at
	}
	n = min(s.slots(d), s.most-s.active)
	d.due = time.Time{}
	d.active += n
	s.active += n
	s.fix(d)
	return d, n, time.Time{}
}

// finish gives one slot back.
func (s *schedule) finish(d *destination, slow bool) {
	d.active--
	if slow {
		s.slow--
	} else {
		s.active--
	}
	s.fix(d)
}

// overdue says that an attempt takes long: its slot is free for others, unless
// too many are slow already.
func (s *schedule) overdue() bool {
	if s.slow >= slowShare*s.most {
		return false
	}
	s.active--
	s.slow++
	return true
}

// condition is how an attempt found its host.
type condition int

const (
	well     condition = iota
	troubled           // the host itself does not take mail now
	outage             // something of ours keeps us from it
)

// found notes how an attempt found the host: in trouble, it is left alone for
// as long as wait says after so many failures in a row; otherwise all is well
// again, and recovered tells whether it was not before.
func (s *schedule) found(d *destination, how condition, now time.Time, wait func(failures int) time.Duration) (recovered bool) {
	switch {
	case how == well:
		recovered = d.failures > 0
		d.failures, d.pausedUntil = 0, time.Time{}
		d.window = min(d.window+1/d.window, float64(s.each))
	case !d.pausedUntil.After(now): // else another attempt of the same moment has noted it
		if d.failures++; how == outage {
			d.failures = 1 // it is not the host's
		}
		d.window = float64(min(startEach, s.each))
		d.pausedUntil = now.Add(wait(d.failures))
	}
	s.fix(d)
	return recovered
}

// forgive ends the pauses of the destinations that which picks.
func (s *schedule) forgive(which func(name string) bool) {
	for _, d := range s.byName {
		if !which(d.name) {
			continue
		}
		d.failures, d.pausedUntil = 0, time.Time{}
		s.fix(d)
	}
}

// destinations is a heap by wakeAt.
type destinations []*destination

func (h destinations) Len() int           { return len(h) }
func (h destinations) Less(i, j int) bool { return h[i].wakeAt().Before(h[j].wakeAt()) }
func (h destinations) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *destinations) Push(x any) {
	d := x.(*destination)
	d.index = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *destinations) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	d.index = -1
	return d
}
