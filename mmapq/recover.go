package mmapq

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// positionJump keeps positions of a new life of the log clear of anything that a lost tail may have handed out.
const positionJump = 1 << 20

// Recovery is what one start found, for the log and for /stats.
type Recovery struct {
	Segments  int   // read back
	Scanned   int   // of these, checked entry by entry
	Messages  int64 // in scanned segments
	Damaged   int64 // messages that were promised and failed their check, at start or when a reader got to them
	Verified  int64 // segments that were not scanned at start and have been checked since, in the background
	TornBytes int64 // manifest bytes behind its last valid record
	LostBytes int64 // manifest bytes in front of it that were damaged
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
			segs, replaced := withoutReplaced(byLog[k])
			for _, s := range replaced {
				unused = append(unused, segmentMeta{slot: s.slot.id})
				if err := s.slot.m.Unmap(); err != nil {
					return err
				}
			}
			t.dead[stream] = l.adopt(segs, t.dead[stream])
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
	if isNotExist(err) || errors.Is(err, errShortFile) {
		// A power cut came before the file was safe, and so before anything in it was promised.
		st.warn("segment file %s is lost: %v", name, err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, rebuilt, err := identify(m.Mem, meta)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, m.Unmap()))
	}
	if rebuilt {
		st.warn("%s: both copies of the header are damaged; it is made anew from what the messages say", name)
		putHeader(m.Mem, h)
	}
	if meta.compacted && !h.of(meta) { // one that the manifest knows was complete
		return nil, errors.Join(m.Unmap(), st.setAside(name, "both copies of its header are damaged"))
	}
	if !h.of(meta) {
		return nil, m.Unmap()
	}
	if uint64(len(m.Mem)) < meta.size {
		return nil, errors.Join(m.Unmap(), st.setAside(name, fmt.Sprintf("it has %d bytes instead of %d", len(m.Mem), meta.size)))
	}
	s := foundSegment(m, meta, h)
	if h.feature&featureCompacted != 0 {
		if !st.readCompacted(s) {
			return nil, errors.Join(m.Unmap(), st.setAside(name, "it does not tell any more what it holds"))
		}
		return s, nil
	}
	st.readBack(s)
	if s.count == 0 {
		return nil, m.Unmap()
	}
	return s, nil
}

// identify returns the header of a segment file, made anew from a message if both copies are damaged. A header that is neither there nor can
// be made is the zero one.
func identify(mem []byte, meta segmentMeta) (h header, rebuilt bool, err error) {
	h, err = getHeader(mem)
	if errors.Is(err, ErrNewerFormat) {
		return h, false, err
	}
	if err != nil && !meta.compacted {
		h, rebuilt = rebuildHeader(mem, meta)
	}
	return h, rebuilt, nil
}

// of tells whether the header is that of the life of the file which the manifest speaks of. Else the segment was prepared and never activated:
// the header is that of an earlier life, or none.
func (h header) of(meta segmentMeta) bool {
	return h.topicID == meta.topic && h.seq == meta.seq && h.salt == meta.salt && h.stream == meta.stream
}

// foundSegment is a segment of which only the header was read.
func foundSegment(m *Mapping, meta segmentMeta, h header) *Segment {
	m.Mem = m.Mem[:meta.size]
	return &Segment{
		slot: &slot{id: meta.slot, m: m}, mem: m.Mem, idBase: IDPrefix(h.node, h.stream) | uint64(h.base), base: h.base, baseOrd: h.baseOrd,
		salt: h.salt, seq: h.seq, stream: h.stream,
	}
}

// marks reads what the header says of the entries: how many are known to be synced, how many there can be at most, and whether the segment was
// sealed.
func (s *Segment) marks() (durable, limit uint32, sealed bool) {
	word, _ := loadChecked(s.mem, offDurable, s.salt)
	seal, ok := loadChecked(s.mem, offSeal, s.salt)
	limit = s.capacity()
	if sealed = ok && seal > 0 && seal-1 <= uint64(limit); sealed {
		limit = uint32(seal - 1)
	}
	return uint32(min(word, uint64(s.capacity()))), limit, sealed
}

// readBack finds out what s holds. A segment that is sealed and wholly synced is taken as it is, its entries are checked when they are read;
// any other is scanned. Nothing is ever appended behind a recovered cut: whatever the tail holds stays dead because the segment is closed in
// front of it.
func (st *Store) readBack(s *Segment) {
	st.found.Segments++
	durable, limit, sealed := s.marks()
	if sealed && durable == limit {
		s.count, s.unscanned = durable, true
		s.durable.Store(durable)
		s.sealed.Store(true)
		return
	}
	damaged := s.scan(durable, limit)
	st.found.Scanned++
	st.found.Messages += int64(s.count)
	if damaged > 0 {
		st.damaged.Add(damaged)
		st.warn("%s: %d messages below the synced end are damaged and left out", slotName(s.slot.id), damaged)
	}
	s.durable.Store(min(durable, s.count))
	if s.count == 0 || s.hasDead.Load() {
		s.sealed.Store(true) // in memory only: with damage in it, it is scanned again at the next start
		return
	}
	s.minTS, s.maxTS = FrameTimestamp(s.frame(0)), FrameTimestamp(s.frame(s.count-1))
	s.seal()
}

// setAside keeps a file that cannot be used under another name: nothing that may hold messages is deleted.
func (st *Store) setAside(name, why string) error {
	st.warn("%s is not used and kept as %s.damaged: %s", name, name, why)
	return st.disk.Rename(name, name+".damaged")
}

// rebuildHeader makes the header of a segment whose copies are both damaged from the first message that passes its check under the salt that
// the manifest remembers: its id tells node, stream and position.
func rebuildHeader(mem []byte, meta segmentMeta) (header, bool) {
	if uint64(len(mem)) < meta.size {
		return header{}, false
	}
	mem = mem[:meta.size]
	s := Segment{mem: mem, salt: meta.salt}
	for i := range s.capacity() {
		at := s.entryAt(i)
		e := getEntry(mem[at:])
		if !s.holds(e, headerSize, at) || e.flags&flagForeignID != 0 {
			continue
		}
		id, err := strconv.ParseUint(string(mem[int(e.offset)+frameID:int(e.offset)+FrameHeader]), 16, 64)
		stream, p, ours := SplitID(id)
		if err != nil || !ours || stream != meta.stream || p < Pos(i) {
			continue
		}
		s.base = p - Pos(i)
		s.idBase = id - uint64(i)
		if s.passes(i, e, headerSize, at) {
			return header{
				node: uint16(id >> idNodeShift & NodeMax), stream: stream, topicID: meta.topic, seq: meta.seq, base: s.base, salt: meta.salt, size: meta.size,
			}, true
		}
	}
	return header{}, false
}

// scan finds the entries of a segment that was open (or not known to be synced) at the end of its last life: every entry whose frame passes
// its checksum is kept. Entries that do not pass but have a good one behind them become damage. It looks at limit entries at most and returns
// how many of the damaged ones were promised to be durable.
func (s *Segment) scan(durable, limit uint32) (damaged int64) {
	good := uint32(0) // one more than the last entry that passed
	tail := uint32(headerSize)
	// What lies behind the end is whatever an earlier life left there. It cannot pass, but must not cost more to look at than it is worth.
	waste := 4 * len(s.mem)
	for i := uint32(0); i < limit && waste > 0; i++ {
		at := s.entryAt(i)
		if at < int(tail) {
			break
		}
		e := getEntry(s.mem[at:])
		if !s.passes(i, e, tail, at) {
			if s.holds(e, tail, at) {
				waste -= frameLen(s.mem[e.offset:])
			}
			continue
		}
		if i > good {
			s.addDamage(s.base+Pos(good), s.base+Pos(i))
			damaged += int64(min(i, durable)) - int64(min(good, durable))
		}
		if e.flags&flagDead != 0 {
			s.addDamage(s.base+Pos(i), s.base+Pos(i)+1)
		}
		good = i + 1
		tail = e.offset + uint32(frameLen(s.mem[e.offset:]))
	}
	if good < durable {
		damaged += int64(durable - good)
	}
	s.count = good
	return damaged
}

// holds tells whether an entry, found at byte at, describes bytes at or behind tail that can be a frame.
func (s *Segment) holds(e entry, tail uint32, at int) bool {
	if e.offset < tail || int(e.offset)+FrameHeader > at {
		return false
	}
	n := frameLen(s.mem[e.offset:])
	return n >= FrameHeader && n <= at-int(e.offset)
}

// passes tells whether entry i, found at byte at, describes a whole and unchanged frame at or behind tail.
func (s *Segment) passes(i uint32, e entry, tail uint32, at int) bool {
	if !s.holds(e, tail, at) {
		return false
	}
	frame := s.mem[e.offset : int(e.offset)+frameLen(s.mem[e.offset:])]
	if e.flags&flagForeignID == 0 && !hasID(frame, s.idBase+uint64(s.position(i)-s.base)) {
		return false // cheaper than the sum, and enough for nearly everything that an earlier life left
	}
	return checksum(frame, s.salt, s.position(i), e) == e.sum || Mutant("trust-length")
}

// adopt takes over recovered segments and returns those of the dropped ranges that still matter. Called before the log is used.
func (l *Log) adopt(segs []*Segment, dead []posRange) (left []posRange) {
	slices.SortFunc(segs, func(a, b *Segment) int { return cmp.Compare(a.base, b.base) })
	end := l.nextBase
	for i, s := range segs {
		if i > 0 {
			s.baseOrd = l.nextOrd // dense again, whatever was lost or freed between the two
		}
		end = max(end, s.end())
		l.nextOrd = s.baseOrd + uint64(s.count)
		l.nextSeq = max(l.nextSeq, s.seq+1)
	}
	l.segs.Store(&segs)
	l.committed.Store(uint64(end))
	l.nextBase = end + positionJump
	l.adoptDurable(segs)
	if left, _ = stillDead(dead, segs); len(left) > 0 {
		slices.SortFunc(left, func(a, b posRange) int { return cmp.Compare(a.from, b.from) })
		l.dead.Store(&left)
	}
	return left
}

// adoptDurable finds out how far l is known to be synced and leaves the rest to the first sync round.
func (l *Log) adoptDurable(segs []*Segment) {
	for _, s := range segs {
		if n := s.durable.Load(); n < s.count {
			l.durable.Store(uint64(s.base) + uint64(n))
			l.dirty.Store(true)
			l.st.sync.add(l)
			return
		}
	}
	l.durable.Store(l.committed.Load())
}

// startAt tells a recovered log that positions below p may have been used: new ones stay clear of them. Called before the log is used.
func (l *Log) startAt(p Pos) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextBase = max(l.nextBase, p)
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
// every other segment or state file that nothing refers to. If the manifest was damaged, what would refer to them may be lost: they are kept
// under another name.
func (st *Store) freeUnused(unused []segmentMeta) error {
	recs := make([]record, 0, len(unused))
	for _, u := range unused {
		recs = append(recs, record{kind: recSegmentFree, slot: u.slot})
	}
	err := st.recordUnused(recs)
	if isFull(err) { // orphans need no record, and give room
		if err = st.removeOrphans(); err == nil {
			err = st.recordUnused(recs)
		}
	}
	if isFull(err) {
		st.warn("%d segments that nobody needs stay until a start with space: %v", len(recs), err)
		return nil
	}
	if err != nil {
		return err
	}
	return st.removeOrphans()
}

func (st *Store) recordUnused(recs []record) error {
	if len(recs) > 0 {
		if err := st.man.append(recs...); err != nil {
			return err
		}
	}
	return st.syncManifest()
}

// removeOrphans removes the segment and state files that nothing refers to.
func (st *Store) removeOrphans() error {
	names, err := st.disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !st.orphan(name) {
			continue
		}
		switch {
		case st.found.LostBytes > 0:
			err = st.setAside(name, "the damaged manifest does not say whose it is")
		case st.found.TornBytes > 0 && st.ahead(name):
			err = st.setAside(name, "the record that would say whose it is was cut off the manifest")
		default:
			err = st.disk.Remove(name)
		}
		if err != nil && !isNotExist(err) {
			return err
		}
	}
	return nil
}

// ahead tells whether a segment file that nothing refers to is younger than every segment of its log: then it is not one that was freed, the
// record of it is missing. Asked where the end of the manifest is.
func (st *Store) ahead(name string) bool {
	m, err := st.disk.OpenMapped(name)
	if err != nil {
		return false // no segment, or too short to be one
	}
	h, err := getHeader(m.Mem)
	if err := m.Unmap(); err != nil {
		st.warn("unmap %s: %v", name, err)
	}
	if err != nil || st.man.model.topics[h.topicID] == nil || h.feature&featureCompacted != 0 {
		return false // a compacted one is recorded when it is complete: until then everything is elsewhere, too
	}
	for _, s := range st.man.model.segments {
		if s.topic == h.topicID && s.stream == h.stream && s.seq >= h.seq {
			return false
		}
	}
	return true
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
