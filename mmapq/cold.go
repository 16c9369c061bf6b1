package mmapq

import (
	"math"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// A loop must not load from a page that has left memory: the fault waits for the disk, the thread with it, and the next collection of garbage
// stops everybody until it is served. So a reader that may not wait (Log.RunWarm) touches only
//
//   - what was appended lately, in one of the last few segments of a log: no question asked (hot), or
//   - what the kernel says is in memory (mincore), asked for about 256 KiB of frames at a time and believed for a few seconds, or
//   - what a goroutine of the store has just read (Log.Fetch), with the next block read ahead while the consumer works.
//
// The bytes still go to the consumer from the mapping: nothing is copied for readers, so there is nothing to bound. A page that the kernel takes
// back within those seconds costs what every such page cost before.
const (
	hotFor      = int64(5 * time.Second)
	hotSegments = 4 // of a log, counted from the open one
	warmBytes   = 256 << 10
	warmEntries = 4096 // 64 KiB of entries
	warmWindows = 8    // remembered per segment: as many readers at different places
	fetchers    = 4    // goroutines that read

	// noClock is the time for readers that may wait for the disk.
	noClock = math.MaxInt64
)

// heat says which entries of a segment were appended lately: those from hotFrom on until heat is over. turn fields are guarded by Log.mu.
type heat struct {
	until    atomic.Int64
	from     atomic.Uint32
	turnAt   int64
	turnFrom uint32
}

// touch notes that entries from first on are appended at ts. Caller holds Log.mu.
func (h *heat) touch(first uint32, ts int64) {
	if ts <= h.turnAt {
		return
	}
	from := first
	if ts-h.turnAt < hotFor {
		from = h.turnFrom
	}
	h.turnAt, h.turnFrom = ts+hotFor, first
	h.from.Store(from)
	h.until.Store(ts + 2*hotFor)
}

// holds tells whether entry i is hot at now. A time far ahead is that of a wall clock that was set back.
func (h *heat) holds(i uint32, now int64) bool {
	d := h.until.Load() - now
	return d > 0 && d <= 3*hotFor && i >= h.from.Load()
}

// warmWindow is a range of entries that are in memory, frames and all, for a while.
type warmWindow struct {
	from, to uint32
	until    int64
	fetched  bool        // it was not in memory before: what follows probably is not either
	ahead    atomic.Bool // reading ahead of it was asked for
}

// warmAt returns the window that holds entry i, or nil.
func (s *Segment) warmAt(i uint32, now int64) *warmWindow {
	if list := s.warm.Load(); list != nil {
		for _, w := range *list {
			if i >= w.from && i < w.to && now < w.until && w.until-now <= 3*hotFor {
				return w
			}
		}
	}
	return nil
}

func (s *Segment) addWarm(w *warmWindow) {
	for {
		old := s.warm.Load()
		list := []*warmWindow{w}
		if old != nil {
			for _, o := range *old {
				if o.until > w.until-hotFor && len(list) < warmWindows {
					list = append(list, o)
				}
			}
		}
		if s.warm.CompareAndSwap(old, &list) {
			return
		}
	}
}

// block returns the end of the entries from i on, of n at most, that make about warmBytes; have is asked for every range of bytes before
// anything in it is touched, and block gives up with false when it says no.
func (s *Segment) block(i, n uint32, have func(off, n int) bool) (to uint32, ok bool) {
	k := min(n-i, warmEntries)
	if !have(s.entryAt(i+k-1), int(k)*entrySize) {
		return i, false
	}
	top := s.entryAt(n - 1)
	offset := func(i uint32) int { return min(max(int(s.offset(i)), headerSize), top-4) } // an entry may be damaged
	from := offset(i)
	to = i + max(1, uint32(sort.Search(int(k), func(x int) bool { return offset(i+uint32(x)) >= from+warmBytes })))
	last := offset(to - 1)
	if !have(last, 4) {
		return i, false
	}
	end := min(last+min(max(frameLen(s.mem[last:]), 4), top), top)
	return to, end <= from || have(from, end-from)
}

// warmFor tells how far entries from position at on may be touched now; false: Fetch them first. The positions up to end have no gap.
func (l *Log) warmFor(s *Segment, at, end, limit Pos, now int64) (stop Pos, ok bool) {
	i := s.index(at)
	if now == noClock || s.slot.m.resident == nil || s.heat.holds(i, now) {
		return end, true
	}
	if w := s.warmAt(i, now); w != nil {
		if w.fetched && i >= w.from+(w.to-w.from)/2 && w.ahead.CompareAndSwap(false, true) {
			l.readAhead(s, w.to, limit, now)
		}
		return min(end, at+Pos(w.to-i)), true
	}
	to, ok := s.block(i, i+uint32(end-at), s.slot.m.resident)
	if ok {
		s.addWarm(&warmWindow{from: i, to: to, until: now + hotFor})
	}
	return at + Pos(to-i), ok
}

// Fetch reads what RunWarm found cold at p and calls done, on another goroutine; not at all when the store is closing. The caller makes sure that
// p cannot be freed before Fetch returns.
func (l *Log) Fetch(p, limit Pos, now int64, done func()) {
	s, at, end := l.seek(p, limit)
	if s == nil {
		go done()
		return
	}
	i := s.index(at)
	l.st.fetch.submit(fetch{l: l, s: s, i: i, n: i + uint32(end-at), now: now, began: time.Now(), done: done})
}

// readAhead reads what follows entry i-1 of s, there or in the next segment.
func (l *Log) readAhead(s *Segment, i uint32, limit Pos, now int64) {
	if n := s.below(limit); s.sealed.Load() && i < n {
		l.st.fetch.submit(fetch{l: l, s: s, i: i, n: n, now: now, began: time.Now(), done: func() {}})
		return
	}
	if next, at, end := l.seek(s.end(), limit); next != nil && next != s && next.sealed.Load() {
		i := next.index(at)
		l.st.fetch.submit(fetch{l: l, s: next, i: i, n: i + uint32(end-at), now: now, began: time.Now(), done: func() {}})
	}
}

// fetch is one block to be read. Its segment is pinned from submit on.
type fetch struct {
	l     *Log
	s     *Segment
	i, n  uint32 // entries
	now   int64  // the reader's clock when it asked, at began
	began time.Time
	done  func()
}

// fetchPool runs fetches on a few goroutines, which live while there are any. At most one is queued for each channel, and one ahead of it.
type fetchPool struct {
	st *Store

	mu      sync.Mutex
	queue   []fetch
	running int
	closed  bool
	wg      sync.WaitGroup

	reads atomic.Uint64 // blocks that were not in memory
}

func (p *fetchPool) submit(f fetch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	f.s.pin()
	p.queue = append(p.queue, f)
	if p.running < fetchers {
		p.running++
		p.wg.Go(p.work)
	}
}

func (p *fetchPool) work() {
	buf := make([]byte, warmBytes)
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.running--
			p.mu.Unlock()
			return
		}
		f := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		if err := p.st.Contain(func() error { return f.run(buf) }); err != nil {
			p.st.warn("TOPIC(%s): %s cannot be read: %v", f.l.name, slotName(f.s.slot.id), err)
		}
		f.s.unpin()
		f.done()
	}
}

// close drops what is queued and waits for what runs.
func (p *fetchPool) close() {
	p.mu.Lock()
	p.closed = true
	for _, f := range p.queue {
		f.s.unpin()
	}
	p.queue = nil
	p.mu.Unlock()
	p.wg.Wait()
}

// run reads the block and lets readers touch it.
func (f *fetch) run(buf []byte) error {
	to, err := f.read(buf)
	if err != nil {
		to = f.n // no descriptor, say: the mapping is all there is
	}
	f.s.addWarm(&warmWindow{from: f.i, to: to, until: f.now + int64(time.Since(f.began)) + hotFor, fetched: true})
	return err
}

// read brings the block into memory and checks it if nobody did before. What cannot be read is damage. It returns the block's end.
func (f *fetch) read(buf []byte) (to uint32, err error) {
	file, err := f.l.st.disk.OpenFile(slotName(f.s.slot.id), false)
	if err != nil {
		return f.i, err
	}
	var failed error
	have := func(off, n int) bool {
		if f.s.slot.m.resident == nil || f.s.slot.m.resident(off, n) {
			return true
		}
		f.l.st.fetch.reads.Add(1)
		for n > 0 && failed == nil {
			part := buf[:min(n, len(buf))]
			_, failed = file.ReadAt(part, int64(off))
			off, n = off+len(part), n-len(part)
		}
		return failed == nil
	}
	to, ok := f.s.block(f.i, f.n, have)
	if !ok {
		to = f.unreadable(have, &failed)
	}
	if f.s.unscanned {
		f.l.checkAhead(f.s, f.i, to)
	}
	return to, file.Close()
}

// unreadable finds the messages of a block that the disk does not give, one by one, and leaves them out. It returns the end of what it tried.
func (f *fetch) unreadable(have func(off, n int) bool, failed *error) (to uint32) {
	lost, why := 0, *failed
	for to = f.i; to < min(f.n, f.i+256); to++ {
		*failed = nil
		if _, ok := f.s.block(to, to+1, have); !ok {
			p := f.s.position(to)
			f.l.mu.Lock()
			f.s.addDamage(p, p+1)
			f.l.mu.Unlock()
			lost++
		}
	}
	*failed = nil
	if lost > 0 {
		f.l.st.damaged.Add(int64(lost))
		f.l.st.warn("TOPIC(%s): %d messages from position %d on cannot be read and are left out (%s): %v",
			f.l.name, lost, f.s.position(f.i), slotName(f.s.slot.id), why)
	}
	return to
}

// checkAhead checks the entries [i, to) of a segment that was not scanned at start, so that loops need not.
func (l *Log) checkAhead(s *Segment, i, to uint32) {
	for i < to {
		p, k := s.position(i), i+1
		for k < to && s.position(k) == p+Pos(k-i) {
			k++
		}
		for end := p + Pos(k-i); p < end; {
			_, stop, skipped := l.check(s, p, end, math.MaxInt)
			if skipped {
				stop, _, _ = l.aroundDamage(s, p, end)
			}
			p = max(stop, p+1)
		}
		i = k
	}
}
