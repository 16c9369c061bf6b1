package mmapq

import (
	"errors"
	"math"
	"runtime/debug"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors of Append. Their texts reach clients behind "PUB failed ".
var (
	// ErrExiting: the topic was deleted or the store is closing.
	ErrExiting = errors.New("exiting")
	// ErrWouldBlock: no prepared segment is at hand; only AppendWait can go on.
	ErrWouldBlock = errors.New("no prepared segment")

	errTooLarge = errors.New("message is larger than a segment can be")
)

// bodyMax is the largest body: what the protocol's 32-bit size can say of a frame. Offsets in a segment are 32 bits wide.
const bodyMax = math.MaxInt32 - FrameHeader

// Log is one stream of a topic: an ordered list of segments.
//
// Ownership: mu guards everything that appending changes. Readers take no lock: they load committed, then segs, and read only positions
// below committed. Only the reclaimer removes segments, and only those that I3 allows.
type Log struct {
	st      *Store
	topicID uint64
	name    string // of the topic, for log lines only
	stream  Stream
	memory  bool // ephemeral topic: segments are anonymous memory and the manifest knows nothing of them

	committed atomic.Uint64 // Pos: every position below is readable
	durable   atomic.Uint64 // Pos: every position below is synced (recovered ones count as synced once a round covered them)
	segs      atomic.Pointer[[]*Segment]
	dead      atomic.Pointer[[]posRange] // ranges dropped by Empty, ascending; nil = none
	dirty     atomic.Bool                // queued for the next sync round
	waiters   atomic.Uint64              // loops waiting for durable to move, one bit each

	mu       sync.Mutex
	open     *Segment
	next     *Segment // prepared, not activated: base is set when it becomes open
	nextBase Pos      // lowest base that the next segment may take
	nextOrd  uint64
	nextSeq  uint64
	class    int // size class of the next segment
	rolledAt time.Time
	fills    fillRate // of the open segment
	pending  []reservation
	firstRes uint64 // number of the reservation pending[0]
	messages uint64 // appended since start
	bytes    uint64 // body bytes appended since start
	closed   bool
	replaced []*Segment // by a compacted one; freed when no pin is left
	asked    bool       // a segment is being prepared
	askBody  int        // largest body that did not fit, for the preparer
	ready    *sync.Cond
	failed   error // the last preparation failed (no space): refused until one succeeds
	failedAt time.Time
}

// reservation is a range that is being written outside the lock. committed never passes the start of the first one that is not done.
type reservation struct {
	seg  *Segment
	end  Pos
	done bool
}

// Committed returns the end of what readers may see.
func (l *Log) Committed() Pos { return Pos(l.committed.Load()) }

// Append copies bodies into the log as consecutive messages with timestamp ts (ns). It never waits: when no prepared segment is left it
// returns how many bodies were appended and ErrWouldBlock. extra is OR-ed into every entry (due time of the deferred stream). On nil error
// all bodies are readable as soon as Committed passes end; they survive SIGKILL from now on.
func (l *Log) Append(bodies [][]byte, ts int64, due int64) (done int, end Pos, err error) {
	var extra entry
	if l.stream == StreamDeferred {
		extra = dueEntry(due)
	}
	for done < len(bodies) {
		n, e, err := l.appendSome(bodies[done:], ts, extra, len(bodies) > 1)
		done += n
		if n > 0 {
			end = e
		}
		if err != nil {
			return done, end, err
		}
	}
	return done, end, nil
}

// appendSome reserves room for as many bodies as the open segment takes, writes them outside the lock and commits. It returns 0 and nil after
// it only switched to the next segment.
func (l *Log) appendSome(bodies [][]byte, ts int64, extra entry, batch bool) (int, Pos, error) {
	r, err := l.reserve(bodies, ts)
	if err != nil || r.n == 0 {
		return 0, 0, err
	}
	l.st.sync.published(r.n)
	w := writing{seg: r.seg, first: r.first, off: int(r.off), bodies: bodies[:r.n], ts: ts, extra: extra, batch: batch}
	err = w.run()
	l.finish(r.number, r.seg, r.first, uint32(r.n), err)
	if err != nil {
		return 0, 0, err
	}
	return r.n, r.end, nil
}

// reserved is what reserve gives one writer: n entries from first on, frames from offset off on.
type reserved struct {
	seg    *Segment
	number uint64 // of the reservation
	first  uint32
	off    uint32
	n      int
	end    Pos
}

// reserve takes room for as many bodies as the open segment holds, or switches to the next segment (n is 0 then). The mutex is given back even
// if a store into the new segment's header faults.
func (l *Log) reserve(bodies [][]byte, ts int64) (reserved, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusal(); err != nil {
		return reserved{}, err
	}
	s := l.open
	n, size, payload := 0, 0, 0
	if s != nil {
		n, size, payload = fit(bodies, s.room())
	}
	if n == 0 {
		return reserved{}, l.roll(len(bodies[0]))
	}
	r := reserved{seg: s, number: l.firstRes + uint64(len(l.pending)), first: s.count, off: s.tail, n: n}
	if s.count == 0 {
		s.minTS = ts
	}
	s.maxTS = ts
	s.heat.touch(s.count, ts)
	s.count += uint32(n)
	s.tail += uint32(size)
	l.messages += uint64(n)
	l.bytes += uint64(payload)
	l.fills.add(size)
	r.end = s.end()
	l.pending = append(l.pending, reservation{seg: s, end: r.end})
	if l.next == nil && !l.asked && s.room() < len(s.mem)/2 {
		l.ask(0)
	}
	return r, nil
}

// refusal is why nothing can be appended now. Caller holds mu.
func (l *Log) refusal() error {
	if l.closed {
		return ErrExiting
	}
	return l.st.Failed()
}

// fit counts how many bodies fit into room bytes of frames and entries.
func fit(bodies [][]byte, room int) (n, size, payload int) {
	for _, b := range bodies {
		f := FrameHeader + len(b)
		if size+f+(n+1)*entrySize > room {
			break
		}
		size += f
		payload += len(b)
		n++
	}
	return n, size, payload
}

// finish marks a reservation written (or failed) and moves committed over everything that is now complete.
func (l *Log) finish(res uint64, s *Segment, first, n uint32, err error) {
	l.mu.Lock()
	if err != nil {
		s.addDamage(s.base+Pos(first), s.base+Pos(first)+Pos(n))
	}
	i := int(res - l.firstRes)
	l.pending[i].done = true
	if Mutant("commit-order") {
		l.committed.Store(max(l.committed.Load(), uint64(l.pending[i].end)))
	}
	if i == 0 {
		k := 1
		for k < len(l.pending) && l.pending[k].done {
			k++
		}
		l.mustCommitForwards(l.pending[k-1].end)
		l.committed.Store(uint64(l.pending[k-1].end))
		l.firstRes += uint64(k)
		l.pending = l.pending[:copy(l.pending, l.pending[k:])]
	}
	l.mu.Unlock()
	if err != nil && !errors.Is(err, syscall.ENOSPC) { // a disk that is full may have room again
		l.st.fail(err)
	}
	if !l.memory && !l.dirty.Load() && l.dirty.CompareAndSwap(false, true) {
		l.st.sync.add(l)
	}
}

// roll seals the open segment and activates the prepared one. Caller holds mu.
func (l *Log) roll(body int) error {
	if body > bodyMax {
		return errTooLarge
	}
	if l.next == nil || !l.next.takes(body) {
		if l.failed != nil && time.Since(l.failedAt) < l.st.retry {
			return l.failed
		}
		l.ask(body)
		if l.failed != nil {
			return l.failed
		}
		return ErrWouldBlock
	}
	if l.open != nil {
		l.open.seal()
	}
	AtPoint(PointSeal)
	l.activate(l.next)
	l.next = nil
	return nil
}

// activate makes a prepared segment the open one. Caller holds mu.
func (l *Log) activate(s *Segment) {
	if l.open != nil {
		l.nextBase = max(l.nextBase, l.open.end())
		l.nextOrd = l.open.baseOrd + uint64(l.open.count)
	}
	s.base, s.baseOrd = l.nextBase, l.nextOrd
	l.mustFollow(s)
	s.idBase = IDPrefix(l.st.opts.Node, l.stream) | uint64(s.base)
	putHeader(s.mem, header{
		node: l.st.opts.Node, stream: l.stream, topicID: l.topicID, seq: s.seq,
		base: s.base, baseOrd: s.baseOrd, salt: s.salt, size: uint64(len(s.mem)),
	})
	AtPoint(PointActivate)
	old := *l.segs.Load()
	list := make([]*Segment, len(old), len(old)+1)
	copy(list, old)
	list = append(list, s)
	l.segs.Store(&list)
	if n := len(list) - 1 - hotSegments; n >= 0 {
		list[n].heat.until.Store(0)
	}
	l.open = s
	l.fills = fillRate{}
	now := time.Now()
	if !l.rolledAt.IsZero() && now.Sub(l.rolledAt) < classUpWithin {
		l.class = min(l.class+1, len(classSizes)-1)
	}
	l.rolledAt = now
}

// ask requests a prepared segment from the preparer. Caller holds mu.
func (l *Log) ask(body int) {
	l.askBody = max(l.askBody, body)
	if l.asked {
		return
	}
	if l.asked = l.st.prepare.add(l); !l.asked {
		l.failed, l.failedAt = ErrExiting, time.Now()
	}
}

// AppendWait is Append for goroutines that may wait for the disk.
func (l *Log) AppendWait(bodies [][]byte, ts, due int64) (Pos, error) {
	// The caller is any goroutine; loops have set this once for themselves.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for {
		done, end, err := l.Append(bodies, ts, due)
		if !errors.Is(err, ErrWouldBlock) {
			return end, err
		}
		bodies = bodies[done:]
		l.mu.Lock()
		for l.asked && !l.closed {
			l.ready.Wait()
		}
		l.mu.Unlock()
	}
}

// find returns the segment that holds p, or the first one behind it when p lies in a gap; nil when there is none.
func (l *Log) find(p Pos) *Segment {
	segs := *l.segs.Load()
	n := len(segs)
	if n == 0 {
		return nil
	}
	if last := segs[n-1]; p >= last.base {
		return last // the open segment: its count may still grow, callers bound p by committed
	}
	i := sort.Search(n, func(i int) bool { return segs[i].base > p })
	if i > 0 && p < segs[i-1].end() {
		return segs[i-1]
	}
	if i < n {
		return segs[i]
	}
	return nil
}

// Ordinal returns how many entries the log had before position p since it was created; differences are counts of messages.
func (l *Log) Ordinal(p Pos) uint64 {
	s := l.find(p)
	for s == nil {
		l.mu.Lock()
		ord, none := l.nextOrd, len(*l.segs.Load()) == 0
		l.mu.Unlock()
		if none {
			return ord
		}
		s = l.find(p) // the first segments came meanwhile, and nextOrd is what follows them
	}
	switch {
	case p <= s.base:
		return s.baseOrd
	case s.sealed.Load():
		if p >= s.end() {
			return s.endOrd()
		}
		return s.baseOrd + uint64(s.index(p))
	}
	return s.baseOrd + uint64(p-s.base)
}

// count returns how many entries [from, to) holds. The ordinal of a position that is freed meanwhile grows: the lower end is asked first.
func (l *Log) count(from, to Pos) uint64 {
	lo := l.Ordinal(from)
	return max(l.Ordinal(to), lo) - lo
}

// Totals returns messages and body bytes appended since the process started.
func (l *Log) Totals() (messages, bytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.messages, l.bytes
}
