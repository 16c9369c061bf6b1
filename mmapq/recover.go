package mmapq

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// positionJump keeps positions of a new life of the log clear of anything that a lost tail may have handed out.
const positionJump = 1 << 20

// Recovery is what one start found, for the log and for /stats.
type Recovery struct {
	Segments  int   // read back
	Scanned   int   // of these, checked entry by entry
	Messages  int64 // in scanned segments
	Damaged   int64 // entries below durable-up-to that failed their check
	TornBytes int64 // manifest bytes behind its valid prefix
}

// recoverLogs opens the segments that the manifest names and builds the logs of every topic.
func (st *Store) recoverLogs() error {
	byLog := map[logKey][]*Segment{}
	var unused []segmentMeta
	maxID := uint32(0)
	for _, meta := range st.man.model.segments {
		maxID = max(maxID, meta.slot)
		if st.man.model.topics[meta.topic] == nil {
			unused = append(unused, meta)
			continue
		}
		s, err := st.openSegment(meta)
		if err != nil {
			return err
		}
		if s == nil {
			unused = append(unused, meta)
			continue
		}
		k := logKey{meta.topic, meta.stream}
		byLog[k] = append(byLog[k], s)
	}
	st.pool.nextID = maxID
	for id, t := range st.man.model.topics {
		for _, stream := range [2]Stream{StreamMain, StreamDeferred} {
			k := logKey{id, stream}
			l := st.newLog(t, stream, false)
			l.adopt(byLog[k], t.dead[stream])
			st.logs[k] = l
		}
	}
	return st.freeUnused(unused)
}

type logKey struct {
	topic  uint64
	stream Stream
}

// openSegment maps a segment and finds out how many entries it holds. nil: nothing of this life of the file was ever used.
func (st *Store) openSegment(meta segmentMeta) (*Segment, error) {
	name := slotName(meta.slot)
	m, err := st.disk.OpenMapped(name)
	if isNotExist(err) {
		st.warn("segment file %s is gone", name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, err := getHeader(m.Mem)
	if errors.Is(err, ErrNewerFormat) {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, m.Unmap()))
	}
	if err != nil || h.topicID != meta.topic || h.seq != meta.seq || h.salt != meta.salt || h.stream != meta.stream {
		return nil, m.Unmap() // prepared, never activated: the header still is that of an earlier life, or none
	}
	s := &Segment{
		slot: &slot{id: meta.slot, m: m}, mem: m.Mem, idBase: IDPrefix(h.node, h.stream) | uint64(h.base), base: h.base, baseOrd: h.baseOrd,
		salt: h.salt, seq: h.seq, stream: h.stream, tail: headerSize, recovered: true,
	}
	durable, _ := loadChecked(m.Mem, offDurable, h.salt)
	seal, sealedOK := loadChecked(m.Mem, offSeal, h.salt)
	sealed := sealedOK && seal > 0
	st.found.Segments++
	if sealed && durable == seal-1 {
		s.count = uint32(durable)
	} else {
		n := s.scan(uint32(durable), sealed, uint32(seal-1))
		st.found.Scanned++
		st.found.Messages += int64(s.count)
		st.found.Damaged += n
		if n > 0 {
			st.warn("%s: %d entries below the synced end are damaged", name, n)
		}
	}
	if s.count == 0 {
		return nil, m.Unmap()
	}
	last := s.offset(s.count - 1)
	s.tail = last + uint32(frameLen(s.mem[last:]))
	s.durable.Store(min(uint32(durable), s.count))
	s.minTS, s.maxTS = FrameTimestamp(s.frame(0)), FrameTimestamp(s.frame(s.count-1))
	// Never append behind a recovered cut: whatever the tail holds stays dead because the segment is closed in front of it.
	s.seal()
	return s, nil
}

// scan finds the entries of a segment that was open (or not known to be synced) at the end of its last life: every entry whose frame passes
// its checksum is kept. Entries that do not pass but have a good one behind them become damage. It returns how many of those were promised to
// be durable.
func (s *Segment) scan(durable uint32, sealed bool, sealedCount uint32) (damaged int64) {
	limit := uint32((len(s.mem) - headerSize) / (FrameHeader + 1 + entrySize))
	if sealed {
		limit = min(limit, sealedCount)
	}
	good := uint32(0) // one more than the last entry that passed
	tail := uint32(headerSize)
	for i := uint32(0); i < limit; i++ {
		at := s.entryAt(i)
		if at < int(tail) {
			break
		}
		e := getEntry(s.mem[at:])
		if !s.passes(i, e, tail, at) {
			continue
		}
		if i > good {
			s.damage = append(s.damage, posRange{s.base + Pos(good), s.base + Pos(i)})
			damaged += int64(min(i, durable)) - int64(min(good, durable))
		}
		if e.flags&flagDead != 0 {
			s.damage = append(s.damage, posRange{s.base + Pos(i), s.base + Pos(i) + 1})
		}
		good = i + 1
		tail = e.offset + uint32(frameLen(s.mem[e.offset:]))
	}
	if good < durable {
		damaged += int64(durable - good)
	}
	s.count = good
	s.hasDead.Store(len(s.damage) > 0)
	return damaged
}

// passes tells whether entry i, found at byte at, describes a whole and unchanged frame at or behind tail.
func (s *Segment) passes(i uint32, e entry, tail uint32, at int) bool {
	if e.offset < tail || int(e.offset)+FrameHeader+1 > at {
		return false
	}
	n := frameLen(s.mem[e.offset:])
	if n < FrameHeader+1 || n > at-int(e.offset) {
		return false
	}
	want := e.sum
	return checksum(s.mem[e.offset:int(e.offset)+n], s.salt, s.base+Pos(i), e) == want
}

// adopt takes over recovered segments. Called before the log is used.
func (l *Log) adopt(segs []*Segment, dead []posRange) {
	slices.SortFunc(segs, func(a, b *Segment) int { return cmp.Compare(a.seq, b.seq) })
	end := l.nextBase
	for _, s := range segs {
		end = max(end, s.end())
		l.nextOrd = s.baseOrd + uint64(s.count)
		l.nextSeq = s.seq + 1
	}
	l.segs.Store(&segs)
	l.committed.Store(uint64(end))
	if len(segs) > 0 {
		l.nextBase = end + positionJump
	}
	var left []posRange
	for _, d := range dead {
		if len(segs) > 0 && d.to > segs[0].base {
			left = append(left, d)
		}
	}
	if len(left) > 0 {
		slices.SortFunc(left, func(a, b posRange) int { return cmp.Compare(a.from, b.from) })
		l.dead.Store(&left)
	}
}

// Seen tells a recovered log of a position that a channel or topic remembers: new ones stay clear of it. Called before the log is used.
func (l *Log) Seen(p Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p > l.Committed() {
		l.committed.Store(uint64(p))
	}
	l.nextBase = max(l.nextBase, p+positionJump)
}

// freeUnused records that files of deleted topics and segments that were prepared but never used are free, and removes them together with
// every other segment or state file that nothing refers to.
func (st *Store) freeUnused(unused []segmentMeta) error {
	recs := make([]record, 0, len(unused))
	for _, u := range unused {
		recs = append(recs, record{kind: recSegmentFree, slot: u.slot})
	}
	if len(recs) > 0 {
		if err := st.man.append(recs...); err != nil {
			return err
		}
	}
	if err := st.man.sync(); err != nil {
		return err
	}
	names, err := st.disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !st.orphan(name) {
			continue
		}
		if err := st.disk.Remove(name); err != nil && !isNotExist(err) {
			return err
		}
	}
	return nil
}

// orphan tells whether name is a segment or state file of ours that nothing in the manifest refers to.
func (st *Store) orphan(name string) bool {
	var id uint64
	var stream int
	if n, err := fmt.Sscanf(name, "nsqloop.%08x.seg", &id); err == nil && n == 1 && name == slotName(uint32(id)) {
		_, used := st.man.model.segments[uint32(id)]
		return !used
	}
	if n, err := fmt.Sscanf(name, "nsqloop.%016x.%d.state", &id, &stream); err == nil && n == 2 && name == stateName(id, Stream(stream)) {
		return st.man.model.channels[id] == nil
	}
	return false
}
