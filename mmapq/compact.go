package mmapq

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"slices"
)

const compactMost = 16 << 20 // bytes that a compacted segment holds at most

// Live is what Compact asks its caller.
type Live interface {
	// Ripe tells whether a segment that begins at base may be looked at.
	Ripe(base Pos) bool
	// Each calls f with the positions of [from, to) that some channel still needs, ascending, until f returns false. What is not among them is
	// never needed again.
	Each(from, to Pos, f func(p Pos) bool)
}

// part is a segment to be replaced and the entries that stay.
type part struct {
	s    *Segment
	keep []uint32
}

// compaction is a group of adjacent parts.
type compaction struct {
	parts        []part
	weight, size int // bytes of what stays, with table and entries; bytes of the files
	messages     int
}

func (c *compaction) out() int {
	return (headerSize + c.weight + 8 + headerSize - 1) &^ (headerSize - 1)
}

func (c *compaction) worth(gain int) bool {
	return len(c.parts) > 0 && c.size-c.out() >= gain && c.size >= 2*c.out()
}

// Compact replaces one group of adjacent sealed segments below limit, of each of which at least half is not needed any more, by one
// compacted segment, if that frees at least gain bytes and half of all. It reports whether it did; then the caller makes sure that no reader is between looking a segment up
// and pinning it (readers do both under their channel's mutex), and calls FreeReplaced. Runs on the reclaimer.
func (l *Log) Compact(limit Pos, gain int, live Live) (bool, error) {
	c := l.chooseCompaction(limit, gain, live)
	if !c.worth(gain) {
		return false, nil
	}
	return l.compact(c)
}

// chooseCompaction returns the first group that is worth it, or one that is not.
func (l *Log) chooseCompaction(limit Pos, gain int, live Live) compaction {
	l.mu.Lock()
	open, closed := l.open, l.closed
	l.mu.Unlock()
	most := l.compactMost()
	var c compaction
	if closed {
		return c
	}
	for _, s := range *l.segs.Load() {
		if s == open || !s.sealed.Load() || s.end() > limit {
			break
		}
		p, weight, ok := s.remains(live)
		if ok && len(c.parts) > 0 {
			first := c.parts[0].s
			ok = c.weight+weight <= most && s.end()-first.base < 1<<32 && s.idBase-first.idBase == uint64(s.base-first.base)
			if !ok && c.worth(gain) {
				return c
			}
			if !ok { // begins the next group
				c, ok = compaction{}, true
			}
		}
		if !ok {
			if c.worth(gain) {
				return c
			}
			c = compaction{}
			continue
		}
		c.parts = append(c.parts, p)
		c.weight += weight
		c.size += len(s.mem)
		c.messages += len(p.keep)
	}
	return c
}

// compactMost is how many bytes one compacted segment shall hold: on a full disk no more than what the spare lends.
func (l *Log) compactMost() int {
	if l.memory || l.st.Full() == nil && l.st.spare.whole() {
		return compactMost
	}
	return int(min(compactMost, max(0, l.st.spare.lendable()-2*headerSize)))
}

// remains finds out what of s is needed; false when that is more than half of it, or s is not ripe.
func (s *Segment) remains(live Live) (p part, weight int, ok bool) {
	if !live.Ripe(s.base) {
		return part{}, 0, false
	}
	p.s, ok = s, true
	most := len(s.mem) / 2
	live.Each(s.base, s.end(), func(at Pos) bool {
		i := s.index(at)
		if weight += s.lengthOf(i) + entrySize + 4; weight > most {
			ok = false
		}
		p.keep = append(p.keep, i)
		return ok
	})
	return p, weight, ok
}

// lengthOf is the length of frame i, taken from the entries where they tell: the bodies of a segment may not be in memory.
func (s *Segment) lengthOf(i uint32) int {
	at := s.offset(i)
	if i+1 < s.count {
		if next := s.offset(i + 1); next > at && int(next) < len(s.mem) {
			return int(next - at)
		}
	}
	if n := frameLen(s.mem[at:]); n >= FrameHeader && int(at)+n <= len(s.mem) {
		return n
	}
	return FrameHeader
}

// withoutDamage leaves out what fails its check and returns how much that is, and the size of a file for the rest.
func withoutDamage(parts []part) (damaged int64, size int) {
	size = headerSize + 8
	for k := range parts {
		p := &parts[k]
		p.keep = slices.DeleteFunc(p.keep, func(i uint32) bool {
			if !p.s.good(i) {
				damaged++
				return true
			}
			size += len(p.s.frame(i)) + entrySize + 4
			return false
		})
	}
	return damaged, (size + headerSize - 1) &^ (headerSize - 1)
}

// compact writes the new segment, makes it safe, records it and shows it to readers in the place of the old ones.
func (l *Log) compact(c compaction) (done bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			done, err = false, faultError(r)
		}
	}()
	first, last := c.parts[0].s, c.parts[len(c.parts)-1].s
	s := &Segment{
		idBase: first.idBase, base: first.base, baseOrd: first.baseOrd, stream: l.stream, reach: last.end() - first.base, table: []uint32{},
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return false, err
	}
	s.salt = binary.LittleEndian.Uint64(salt[:])
	l.mu.Lock()
	s.seq = l.nextSeq
	l.nextSeq++
	l.mu.Unlock()
	damaged, size := withoutDamage(c.parts)
	if err := l.newCompacted(s, size); err != nil {
		return false, err
	}
	s.fill(c.parts)
	s.extra = last.endOrd() - s.baseOrd - uint64(s.count)
	putHeader(s.mem, header{
		node: uint16(s.idBase >> idNodeShift & NodeMax), stream: l.stream, topicID: l.topicID, seq: s.seq, base: s.base, baseOrd: s.baseOrd,
		salt: s.salt, size: uint64(size), feature: featureCompacted,
	})
	s.close()
	if err := l.recordCompacted(s); err != nil {
		l.st.dropSlot(s.slot)
		return false, err
	}
	if damaged > 0 {
		l.st.damaged.Add(damaged)
		l.st.warn("TOPIC(%s): %d messages between positions %d and %d are damaged and left out", l.name, damaged, first.base, last.end())
	}
	l.replace(s, c.parts)
	return true, nil
}

func (l *Log) newCompacted(s *Segment, size int) error {
	if l.memory {
		m, err := l.st.disk.Anonymous(size)
		if err != nil {
			return err
		}
		s.slot, s.mem = &slot{m: m}, m.Mem
		return nil
	}
	id := l.st.pool.newID()
	var m *Mapping
	err := l.st.spare.retryFor(int64(size), func() (err error) {
		m, err = l.st.disk.CreateMapped(slotName(id), size)
		return err
	})
	if err != nil {
		return err
	}
	s.slot, s.mem = &slot{id: id, m: m}, m.Mem
	return nil
}

// fill copies what stays.
func (s *Segment) fill(parts []part) {
	at := headerSize
	for _, p := range parts {
		for _, i := range p.keep {
			frame := p.s.frame(i)
			e := p.s.entry(i)
			if s.count == 0 {
				s.minTS = FrameTimestamp(frame)
			}
			s.maxTS = FrameTimestamp(frame)
			pos := p.s.position(i)
			e.offset = uint32(at)
			at += copy(s.mem[at:], frame)
			e.sum = checksum(frame, s.salt, pos, e)
			putEntry(s.mem[s.entryAt(s.count):], e)
			s.table = append(s.table, uint32(pos-s.base))
			s.count++
		}
	}
	raw := s.mem[tableAt(len(s.mem), s.count):]
	for i, d := range s.table {
		binary.LittleEndian.PutUint32(raw[4*i:], d)
	}
}

// close writes the words behind the header's identity.
func (s *Segment) close() {
	raw := s.mem[tableAt(len(s.mem), s.count):][:4*s.count]
	storeChecked(s.mem, offSpan, uint64(s.reach), s.salt)
	storeChecked(s.mem, offTableSum, uint64(crc32.Checksum(raw, castagnoli)), s.salt)
	storeChecked(s.mem, offDurable, uint64(s.count), s.salt)
	s.durable.Store(s.count)
	s.seal()
}

// recordCompacted makes s durable, then what says that it counts.
func (l *Log) recordCompacted(s *Segment) error {
	if l.memory {
		return nil
	}
	AtPoint(PointCompact)
	for o := 0; o < len(s.mem); o += populateStep {
		if err := s.slot.m.SyncRange(o, min(populateStep, len(s.mem)-o)); err != nil {
			err = fmt.Errorf("sync: %w", err)
			l.st.fail(err)
			return err
		}
	}
	if err := l.st.disk.SyncDir(); err != nil {
		err = fmt.Errorf("sync: %w", err)
		l.st.fail(err)
		return err
	}
	meta := segmentMeta{slot: s.slot.id, topic: l.topicID, stream: l.stream, seq: s.seq, salt: s.salt, size: uint64(len(s.mem)), compacted: true}
	if err := l.st.man.append(meta.record()); err != nil {
		return err
	}
	// What it stands for is freed by later records. A power cut can leave those and not this one, unless it is synced before they are written.
	if err := l.st.syncManifest(); err != nil {
		return err
	}
	AtPoint(PointCompacted)
	return nil
}

// replace exchanges the segments of parts for s in the list.
func (l *Log) replace(s *Segment, parts []part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := *l.segs.Load()
	i := slices.Index(old, parts[0].s)
	list := slices.Concat(old[:i], []*Segment{s}, old[i+len(parts):])
	l.segs.Store(&list)
	for _, p := range parts {
		l.replaced = append(l.replaced, p.s)
	}
}

// FreeReplaced frees what compacted segments took the place of, as far as no reader is left, and gives the spare back what they took of it.
func (l *Log) FreeReplaced() {
	l.mu.Lock()
	var gone []*Segment
	l.replaced = slices.DeleteFunc(l.replaced, func(s *Segment) bool {
		free := s.pins.Load() == 0
		if free {
			gone = append(gone, s)
		}
		return free
	})
	l.mu.Unlock()
	l.st.freeSegments(l, gone)
	if len(gone) > 0 && !l.memory && !l.st.spare.whole() {
		if err := l.st.makeRoom(); err != nil && !isFull(err) {
			l.st.warn("the disk reserve cannot be made whole: %v", err)
		}
	}
}
