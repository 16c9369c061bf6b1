package mmapq

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strconv"
)

// A compacted segment takes the place of one or more adjacent segments of which only a few messages are still needed. The messages keep their
// frames, ids and positions, so nothing that refers to one (state, lease, side queue, due heap) notices. Its entries cannot be found by
// arithmetic: between frames and entries lies a table with the distance of each position from base, 4 bytes little-endian each, ascending, and
// the header tells the range of positions that it stands for (offSpan) and the table's checksum (offTableSum). Bit featureCompacted is set.
//
//	header | frames, up -> | free | table | <- entries, down
//
// It is written whole, synced and only then recorded in the manifest; from then on it counts and every segment with a smaller number in its
// range does not (withoutReplaced), whether or not those were recorded as free before a kill.

// tableAt is where the table of a compacted segment with n entries lies.
func tableAt(size int, n uint32) int { return (size - (entrySize+4)*int(n)) &^ 7 }

// position returns the position of entry i.
func (s *Segment) position(i uint32) Pos {
	if s.table != nil {
		return s.base + Pos(s.table[i])
	}
	return s.base + Pos(i)
}

// index returns the entry of position p, of a compacted segment the first one that is not below p.
func (s *Segment) index(p Pos) uint32 {
	if s.table == nil {
		return uint32(p - s.base)
	}
	if p >= s.base+s.reach {
		return s.count
	}
	i, _ := slices.BinarySearch(s.table, uint32(p-s.base))
	return uint32(i)
}

// endOrd is the ordinal behind the last entry.
func (s *Segment) endOrd() uint64 { return s.baseOrd + uint64(s.count) + s.extra }

// stretch returns the first position at or behind p that a compacted segment holds, and where the positions without a gap from there on end;
// both are the segment's end when there is none.
func (s *Segment) stretch(p Pos) (at, stop Pos) {
	i := s.index(p)
	if i == s.count {
		return s.end(), s.end()
	}
	at = s.position(i)
	for i++; i < s.count && s.table[i] == s.table[i-1]+1; i++ {
	}
	return at, s.position(i-1) + 1
}

// readCompacted finds out what a compacted segment holds: nothing in it was ever written after it was synced.
func (st *Store) readCompacted(s *Segment) bool {
	st.found.Segments++
	seal, ok := loadChecked(s.mem, offSeal, s.salt)
	span, okSpan := loadChecked(s.mem, offSpan, s.salt)
	if !ok || seal == 0 || seal-1 > uint64(s.capacity()) || !okSpan || span == 0 || span > 1<<32 {
		return false
	}
	s.count, s.reach, s.unscanned = uint32(seal-1), Pos(span), true
	s.durable.Store(s.count)
	s.sealed.Store(true)
	raw := s.mem[tableAt(len(s.mem), s.count):][:4*s.count]
	s.table = make([]uint32, s.count)
	if sum, ok := loadChecked(s.mem, offTableSum, s.salt); ok && sum == uint64(crc32.Checksum(raw, castagnoli)) {
		for i := range s.table {
			s.table[i] = binary.LittleEndian.Uint32(raw[4*i:])
		}
		return true
	}
	st.warn("%s: the table of positions is damaged; it is made anew from what the messages say", slotName(s.slot.id))
	s.tableFromIDs()
	return true
}

// tableFromIDs takes the positions from the ids in the frames. What cannot be a message gets a place that keeps the order, and fails its check.
func (s *Segment) tableFromIDs() {
	least := uint32(0)
	for i := range s.count {
		s.table[i] = least
		at := s.entryAt(i)
		if e := getEntry(s.mem[at:]); s.holds(e, headerSize, at) {
			id, err := strconv.ParseUint(string(s.mem[int(e.offset)+frameID:int(e.offset)+FrameHeader]), 16, 64)
			if d := id - s.idBase; err == nil && d >= uint64(least) && d < uint64(s.reach) {
				s.table[i] = uint32(d)
			}
		}
		least = s.table[i] + 1
	}
}

// withoutReplaced parts segments that stand in the range of a compacted one with a larger number from those that count: a kill came before they
// were recorded as free.
func withoutReplaced(segs []*Segment) (kept, replaced []*Segment) {
	for _, s := range segs {
		by := slices.ContainsFunc(segs, func(c *Segment) bool {
			return c.table != nil && c.seq > s.seq && c.base <= s.base && s.base < c.end()
		})
		if by {
			replaced = append(replaced, s)
		} else {
			kept = append(kept, s)
		}
	}
	return kept, replaced
}

// EachSealed calls f with the range of positions and the file size of every sealed segment, ascending, until f returns false. For the goroutine
// that removes segments.
func (l *Log) EachSealed(f func(from, to Pos, size int) bool) {
	for _, s := range *l.segs.Load() {
		if !s.sealed.Load() || !f(s.base, s.end(), len(s.mem)) {
			return
		}
	}
}
