package mmapq

import (
	"encoding/binary"
	"slices"
	"sort"
	"sync/atomic"
)

// Segment is one mapped file of a log: header page, frames growing up, entries growing down from the end.
//
// Invariants:
//
//	I1  frames lie back to back: entry i+1 starts where the frame of entry i ends. A run of messages is therefore one range of bytes.
//	I2  bytes of a position below Log.Committed never change until the segment is freed.
//	I3  a segment is freed only when no channel needs any of its positions, nothing is reserved in it and no pin is held.
//	I4  positions of a segment are base .. base+count-1, or some of base .. end-1 if it is compacted (compact.go); the next segment of the log
//	    starts at or behind that end.
type Segment struct {
	slot    *slot
	mem     []byte // slot.m.Mem
	idBase  uint64 // IDPrefix | base: id of entry 0
	base    Pos
	baseOrd uint64
	salt    uint64
	seq     uint64
	stream  Stream
	byWrite bool // filled by WriteAt, never by stores but into the header page (writeout.go)

	// Owned by Log.mu while open; count is final once sealed is set.
	count  uint32
	tail   uint32 // offset where the next frame goes
	minTS  int64
	maxTS  int64
	sealed atomic.Bool

	hasDead atomic.Bool // damage is not empty
	damage  []posRange  // entries that failed their check or whose writer failed, ascending, never adjacent; guarded by Log.mu
	pins    atomic.Int32
	durable atomic.Uint32 // entries known synced; written by the syncer

	table []uint32 // compacted: distance of each entry's position from base, ascending; nil = the distance is the index
	reach Pos      // compacted: length of the range of positions
	extra uint64   // compacted: how many entries of what it stands for it does not hold; ordinals behind it do not change

	// unscanned: read back at start without looking at the entries (sealed and synced): readers check each one (check.go), except the first
	// checked ones.
	unscanned bool
	checked   atomic.Uint32

	heat heat
	warm atomic.Pointer[[]*warmWindow] // cold.go; never changed, only replaced
}

type posRange struct{ from, to Pos } // [from, to)

// addDamage notes that the entries of [from, to) hold no message. Caller holds Log.mu, or nobody else knows the segment yet.
func (s *Segment) addDamage(from, to Pos) {
	i := sort.Search(len(s.damage), func(i int) bool { return s.damage[i].to >= from })
	k := i
	for ; k < len(s.damage) && s.damage[k].from <= to; k++ {
		from, to = min(from, s.damage[k].from), max(to, s.damage[k].to)
	}
	s.damage = slices.Replace(s.damage, i, k, posRange{from, to})
	s.hasDead.Store(true)
}

// aroundDamage cuts [p, end) at damaged entries; if p itself is damaged it returns where that ends. Caller holds Log.mu.
func (s *Segment) aroundDamage(p, end Pos) (at, stop Pos) {
	i := sort.Search(len(s.damage), func(i int) bool { return s.damage[i].to > p })
	if i == len(s.damage) {
		return p, end
	}
	d := s.damage[i]
	if d.from <= p {
		return d.to, end
	}
	return p, min(end, d.from)
}

func (s *Segment) end() Pos {
	if s.table != nil {
		return s.base + s.reach
	}
	return s.base + Pos(s.count)
}

func (s *Segment) entryAt(i uint32) int { return len(s.mem) - entrySize*int(i+1) }

func (s *Segment) entry(i uint32) entry { return getEntry(s.mem[s.entryAt(i):]) }

func (s *Segment) offset(i uint32) uint32 { return binary.LittleEndian.Uint32(s.mem[s.entryAt(i):]) }

// frame returns the bytes of entry i.
func (s *Segment) frame(i uint32) []byte {
	off := int(s.offset(i))
	return s.mem[off : off+frameLen(s.mem[off:])]
}

// capacity is how many entries can fit at most.
func (s *Segment) capacity() uint32 {
	return uint32((len(s.mem) - headerSize) / (FrameHeader + entrySize))
}

// room is how many bytes are free between the last frame and the last entry.
func (s *Segment) room() int { return s.entryAt(s.count) + entrySize - int(s.tail) }

func (s *Segment) pin()   { s.pins.Add(1) }
func (s *Segment) unpin() { s.pins.Add(-1) }

// seal closes the segment for appending. Caller holds Log.mu.
func (s *Segment) seal() {
	storeChecked(s.mem, offMinTime, uint64(s.minTS), s.salt)
	storeChecked(s.mem, offMaxTime, uint64(s.maxTS), s.salt)
	storeChecked(s.mem, offSeal, uint64(s.count)+1, s.salt)
	s.sealed.Store(true)
}
