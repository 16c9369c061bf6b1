package mmapq

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// slot is one segment file and its mapping, in use by a segment or warm in the pool.
type slot struct {
	id uint32
	m  *Mapping
}

func slotName(id uint32) string { return fmt.Sprintf("nsqloop.%08x.seg", id) }

// Size classes. A log starts small, so that ten thousand quiet topics are cheap, and goes one class up each time it fills a segment quickly.
var classSizes = [...]int{64 << 10, 1 << 20, 16 << 20}

const (
	classUpWithin = time.Minute // a segment filled faster than this is followed by a larger one
	prepareRetry  = 250 * time.Millisecond
	trimEvery     = 30 * time.Second
)

// pool holds freed slots, mapped and faulted, last in first out: fresh memory is what costs most. Its mutex is a leaf.
type pool struct {
	mu     sync.Mutex
	bySize map[int][]*slot
	bytes  int
	least  int // smallest value of bytes since the last trim: what nobody needed
	nextID uint32
}

func (p *pool) take(size int) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.bySize[size]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	p.bySize[size] = list[:len(list)-1]
	p.bytes -= size
	p.least = min(p.least, p.bytes)
	return s
}

// trim takes out half of what was not needed since the last call.
func (p *pool) trim() []*slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	surplus := p.least / 2
	p.least = p.bytes
	var out []*slot
	for size, list := range p.bySize {
		for len(list) > 0 && size <= surplus {
			out = append(out, list[0]) // the coldest
			list = list[1:]
			surplus -= size
			p.bytes -= size
		}
		p.bySize[size] = list
	}
	p.least = p.bytes
	return out
}

// put keeps s for reuse; false when the pool is full, then the caller removes the file.
func (p *pool) put(s *slot, limit int) bool {
	size := len(s.m.Mem)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+size > limit {
		return false
	}
	p.bySize[size] = append(p.bySize[size], s)
	p.bytes += size
	return true
}

// any takes out some slot, the coldest of its size; nil when there is none.
func (p *pool) any() *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	for size, list := range p.bySize {
		if len(list) > 0 {
			p.bySize[size] = list[1:]
			p.bytes -= size
			p.least = min(p.least, p.bytes)
			return list[0]
		}
	}
	return nil
}

func (p *pool) newID() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextID++
	return p.nextID
}

// preparer keeps the next segment of busy logs ready, so that no loop ever waits for a disk. One goroutine.
type preparer struct {
	st      *Store
	mu      sync.Mutex
	list    []*Log
	stopped bool
	kick    chan struct{}
}

// add queues a log; called with Log.mu held. False: the store is closing, nothing will be prepared.
func (p *preparer) add(l *Log) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.list = append(p.list, l)
		signal(p.kick)
	}
	return !p.stopped
}

func (p *preparer) run() {
	defer p.st.wg.Done()
	for {
		select {
		case <-p.st.quit:
			p.mu.Lock()
			p.stopped = true
			p.mu.Unlock()
			p.drain(ErrExiting)
			return
		case <-p.kick:
			p.drain(nil)
		}
	}
}

func (p *preparer) drain(refuse error) {
	for {
		p.mu.Lock()
		list := p.list
		p.list = nil
		p.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for _, l := range list {
			p.serve(l, refuse)
		}
	}
}

// serve gives l its next segment, or the reason why it gets none. A prepared one that is too small for the body that is waiting stays until
// there is a larger one: whoever publishes small bodies is not refused because a large one finds no room.
func (p *preparer) serve(l *Log, refuse error) {
	l.mu.Lock()
	body, class, seq := l.askBody, l.class, l.nextSeq
	byWrite := !l.memory && l.fills.large(p.st.large, body)
	have, small := l.next != nil && l.next.takes(body), l.next != nil
	if !have {
		l.nextSeq++
	}
	l.mu.Unlock()
	var s, old *Segment
	err := refuse
	if err == nil && !have {
		fetch := func(body int) error {
			return p.st.Contain(func() (err error) {
				s, err = p.st.newSegment(l, seq, class, body, byWrite)
				return err
			})
		}
		if err = fetch(body); err != nil && !small && p.st.segmentSize(class, body) > p.st.segmentSize(class, 0) {
			_ = fetch(0) // the error of the large one is told
		}
	}
	l.mu.Lock()
	if s != nil {
		old, l.next = l.next, s
	}
	was := l.failed
	l.failed, l.failedAt = err, time.Now()
	l.asked, l.askBody = false, 0
	l.ready.Broadcast()
	l.mu.Unlock()
	if old != nil {
		p.st.freeSegments(l, []*Segment{old})
	}
	switch {
	case was != nil && err == nil:
		p.st.warn("TOPIC(%s): publishing goes on", l.name)
	case was == nil && err != nil && refuse == nil:
		p.st.warn("TOPIC(%s): no room for the next segment: %v", l.name, err)
	}
}

// takes tells whether an empty segment has room for a body.
func (s *Segment) takes(body int) bool { return s.room() >= FrameHeader+body+entrySize }

// segmentSize returns the file size for a class that also takes one body.
func (st *Store) segmentSize(class, body int) int {
	size := min(classSizes[class], st.opts.SegmentMax)
	need := headerSize + FrameHeader + body + entrySize
	if need > size {
		size = (need + 1<<20 - 1) &^ (1<<20 - 1)
	}
	return size
}

// newSegment takes a warm slot or makes one, records whose it is, and leaves it ready to be activated by a store into its header. byWrite says
// how it will be filled (writeout.go).
func (st *Store) newSegment(l *Log, seq uint64, class, body int, byWrite bool) (*Segment, error) {
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, err
	}
	s := &Segment{stream: l.stream, seq: seq, salt: binary.LittleEndian.Uint64(salt[:]), tail: headerSize}
	if l.memory {
		m, err := st.disk.Anonymous(st.segmentSize(class, body))
		if err != nil {
			return nil, err
		}
		s.slot = &slot{m: m}
		s.mem = m.Mem
		if err := m.Populate(0, len(m.Mem)); err != nil {
			return nil, errors.Join(err, m.Unmap())
		}
		return s, nil
	}
	sl, fresh, err := st.takeSlot(class, body)
	if err != nil {
		return nil, err
	}
	size := len(sl.m.Mem)
	if err := sl.ready(fresh, byWrite); err != nil {
		st.dropSlot(sl)
		return nil, err
	}
	s.byWrite = byWrite
	AtPoint(PointRecycle)
	meta := segmentMeta{slot: sl.id, topic: l.topicID, stream: l.stream, seq: seq, salt: s.salt, size: uint64(size)}
	if err := st.man.append(meta.record()); err != nil {
		if !st.pool.put(sl, st.opts.PoolBytes) {
			st.dropSlot(sl)
		}
		return nil, err
	}
	s.slot, s.mem = sl, sl.m.Mem
	return s, nil
}

// takeSlot takes a slot from the pool or makes one. On a full disk it settles for a smaller one, then gives up what the pool holds in other
// sizes.
func (st *Store) takeSlot(class, body int) (sl *slot, fresh bool, err error) {
	if err := st.makeRoom(); err != nil {
		return nil, false, st.refused(err, st.segmentSize(0, body))
	}
	for {
		size := st.segmentSize(class, body)
		if sl = st.pool.take(size); sl == nil {
			fresh = true
			sl, err = st.makeSlot(size)
		}
		switch {
		case err == nil:
			if p := st.full.Load(); p != nil && int64(size) >= p.need && st.full.CompareAndSwap(p, nil) {
				st.warn("there is space on the disk again")
			}
			return sl, fresh, nil
		case !isFull(err):
			return nil, false, err
		case class > 0:
			class--
		case !st.dropPooled():
			return nil, false, st.refused(err, size)
		}
	}
}

func (st *Store) makeSlot(size int) (*slot, error) {
	id := st.pool.newID()
	m, err := st.disk.CreateMapped(slotName(id), size)
	if err != nil {
		return nil, err
	}
	st.newFiles.Store(true)
	return &slot{id: id, m: m}, nil
}

// refused remembers that there is no room, when that is what err says.
func (st *Store) refused(err error, need int) error {
	if isFull(err) {
		st.full.Store(&noRoom{err, int64(need)})
	}
	return err
}

// TrimPool gives the disk back what the pool did not need for trimEvery. Called about once a second by the reclaimer.
func (st *Store) TrimPool() {
	if time.Since(st.trimmed) < trimEvery {
		return
	}
	st.trimmed = time.Now()
	for _, s := range st.pool.trim() {
		st.dropSlot(s)
	}
}

// dropSlot unmaps and removes a slot's file.
func (st *Store) dropSlot(sl *slot) {
	if err := sl.m.Unmap(); err != nil {
		st.warn("unmap segment file %s: %v", slotName(sl.id), err)
	}
	if sl.id == 0 {
		return
	}
	if err := st.disk.Remove(slotName(sl.id)); err != nil {
		st.warn("remove segment file: %v", err)
	}
}

// freeSegments records that segments are free and puts their slots into the pool, or removes them. Their last reader is gone (I3).
func (st *Store) freeSegments(l *Log, segs []*Segment) {
	mustBeUnpinned(segs)
	if len(segs) == 0 {
		return
	}
	if l.memory {
		for _, s := range segs {
			st.dropSlot(s.slot)
		}
		return
	}
	recs := make([]record, 0, len(segs))
	for _, s := range segs {
		r := record{kind: recSegmentFree, slot: s.slot.id}
		if s.count > 0 {
			r.a = uint64(s.end())
		}
		recs = append(recs, r)
	}
	AtPoint(PointFree)
	err := st.man.append(recs...)
	if err == nil {
		// A freed slot may be overwritten only when a power cut cannot bring its old owner back.
		err = st.syncManifest()
	}
	if err != nil {
		// The files stay as they are; the next start finds them unneeded.
		st.warn("segments of topic %s are not reused: %v", l.name, err)
		for _, s := range segs {
			if err := s.slot.m.Unmap(); err != nil {
				st.warn("unmap: %v", err)
			}
		}
		return
	}
	AtPoint(PointFreed)
	for _, s := range segs {
		if s.table != nil || !st.pool.put(s.slot, st.opts.PoolBytes) { // a compacted one has a size that nobody asks for
			st.dropSlot(s.slot)
		}
	}
}

// Truncate frees the segments that needed says nobody needs any more. needed gets the range of a sealed segment; it runs under the log's lock and must
// not call back. Runs on the reclaimer.
func (l *Log) Truncate(needed func(from, to Pos) bool) int {
	l.mu.Lock()
	old := *l.segs.Load()
	keep := make([]*Segment, 0, len(old))
	var gone []*Segment
	for _, s := range old {
		if s == l.open || !s.sealed.Load() || s.pins.Load() != 0 && !Mutant("free-pinned") || l.reservedIn(s) || needed(s.base, s.end()) {
			keep = append(keep, s)
		} else {
			gone = append(gone, s)
		}
	}
	if len(gone) > 0 {
		l.segs.Store(&keep)
		l.pruneDead(keep)
	}
	l.mu.Unlock()
	l.st.freeSegments(l, gone)
	return len(gone)
}

func (l *Log) reservedIn(s *Segment) bool {
	for _, r := range l.pending {
		if r.seg == s {
			return true
		}
	}
	return false
}

// pruneDead forgets dropped ranges of which no segment is left. Caller holds mu.
func (l *Log) pruneDead(segs []*Segment) {
	dead := l.dead.Load()
	if dead == nil {
		return
	}
	left, gone := stillDead(*dead, segs)
	switch {
	case len(gone) == 0:
		return
	case len(left) == 0:
		l.dead.Store(nil)
	default:
		l.dead.Store(&left)
	}
	if !l.memory {
		l.st.man.forgetDead(l.topicID, l.stream, gone)
	}
}

// stillDead parts the ranges that segs can hold something of, or that lie between them (they count for depth), from the others.
func stillDead(dead []posRange, segs []*Segment) (left, gone []posRange) {
	for _, d := range dead {
		if len(segs) > 0 && d.to > segs[0].base {
			left = append(left, d)
		} else {
			gone = append(gone, d)
		}
	}
	return left, gone
}

// Drop records that [from, to) was dropped: claims jump it, counts subtract it.
func (l *Log) Drop(from, to Pos) error {
	if from >= to {
		return nil
	}
	if !l.memory {
		if err := l.st.man.append(record{kind: recDead, id: l.topicID, stream: l.stream, a: uint64(from), b: uint64(to)}); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []posRange
	if d := l.dead.Load(); d != nil {
		list = *d
	}
	list = appendRange(list, posRange{from, to})
	l.dead.Store(&list)
	return nil
}

// Close refuses further appends. The segments stay readable until Remove. The open one is sealed, so that a start after a clean stop needs not
// scan it.
func (l *Log) Close() {
	if err := l.st.Contain(l.closeOpen); err != nil {
		l.st.warn("TOPIC(%s): the last segment is not sealed: %v", l.name, err)
	}
	if l.memory {
		l.st.man.floor(l.top() + 1) // a topic of the same name that follows goes on behind it
	}
}

func (l *Log) closeOpen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.ready.Broadcast()
	if s := l.open; s != nil && s.count > 0 && len(l.pending) == 0 && !s.sealed.Load() && !s.hasDead.Load() {
		s.seal()
	}
	return nil
}

// Remove frees all segments of a closed log. It returns false, to be called again later, while a pin or a reservation is left.
func (l *Log) Remove() bool {
	l.mu.Lock()
	if l.asked || len(l.pending) > 0 {
		l.mu.Unlock()
		return false
	}
	segs := slices.Concat(*l.segs.Load(), l.replaced)
	for _, s := range segs {
		if s.pins.Load() != 0 {
			l.mu.Unlock()
			return false
		}
	}
	l.replaced = nil
	l.segs.Store(&[]*Segment{})
	l.open = nil
	if l.next != nil {
		segs = append(segs[:len(segs):len(segs)], l.next)
		l.next = nil
	}
	l.mu.Unlock()
	l.st.freeSegments(l, segs)
	return true
}
