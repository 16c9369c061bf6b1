package mmapq

import (
	"fmt"
	"sync"
)

// The channel table is one file of 128-byte slots, mapped in chunks that never move: where each channel stands. Eight-byte words,
// little-endian, each of them stored at once:
//
//	0    channel id; 0 = free
//	8    zero
//	16   main stream: floor, complement of floor, cursor, complement of cursor
//	48   deferred stream: the same
//	80   zero
//
// The floor may lag behind the truth (the state file knows better), it never runs ahead of it.
const (
	tableName  = "nsqloop.channels"
	tableSlot  = 128
	tableChunk = 64 << 10
	tablePer   = tableChunk / tableSlot
)

type table struct {
	st *Store

	mu     sync.Mutex
	chunks []*Mapping
	free   []uint32
	used   uint32 // slots handed out so far
}

// ChannelSlot is one channel's place in the table. Its channel's mutex orders the stores.
type ChannelSlot struct {
	mem   []byte
	index uint32
}

func (t *table) slotAt(i uint32) (*ChannelSlot, error) {
	for int(i/tablePer) >= len(t.chunks) {
		m, err := t.st.disk.MapWindow(tableName, int64(len(t.chunks))*tableChunk, tableChunk, tableChunk)
		if err != nil {
			return nil, fmt.Errorf("channel table: %w", err)
		}
		t.st.newFiles.Store(true)
		t.chunks = append(t.chunks, m)
	}
	o := int(i%tablePer) * tableSlot
	return &ChannelSlot{mem: t.chunks[i/tablePer].Mem[o : o+tableSlot], index: i}, nil
}

// take hands out a cleared slot for channel id.
func (t *table) take(id uint64) (*ChannelSlot, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.used
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
	}
	s, err := t.slotAt(i)
	if err != nil {
		return nil, err
	}
	if i == t.used {
		t.used++
	} else {
		t.free = t.free[:len(t.free)-1]
	}
	for o := 0; o < tableSlot; o += 8 {
		storeWord(s.mem, o, 0)
	}
	storeWord(s.mem, 0, id)
	return s, nil
}

// reopen returns the slot of a channel that the manifest knows. fresh: the slot does not carry the channel's id (it never reached the disk).
func (t *table) reopen(i uint32, id uint64) (s *ChannelSlot, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, err = t.slotAt(i); err != nil {
		return nil, false, err
	}
	t.used = max(t.used, i+1)
	if loadWord(s.mem, 0) == id {
		return s, false, nil
	}
	for o := 0; o < tableSlot; o += 8 {
		storeWord(s.mem, o, 0)
	}
	storeWord(s.mem, 0, id)
	return s, true, nil
}

// give puts a slot back.
func (t *table) give(s *ChannelSlot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	storeWord(s.mem, 0, 0)
	t.free = append(t.free, s.index)
}

// fill makes every slot below used that is not in taken free. Called once at start.
func (t *table) fill(taken map[uint32]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := uint32(0); i < t.used; i++ {
		if !taken[i] {
			t.free = append(t.free, i)
		}
	}
}

func (t *table) sync() error {
	t.mu.Lock()
	chunks := t.chunks
	t.mu.Unlock()
	for _, m := range chunks {
		if err := m.SyncRange(0, tableChunk); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.chunks {
		if err := m.Unmap(); err != nil {
			return err
		}
	}
	t.chunks = nil
	return nil
}

// id is the channel's, 0 for a free slot.
func (s *ChannelSlot) id() uint64 { return loadWord(s.mem, 0) }

func (s *ChannelSlot) words(st Stream) int { return 16 + 32*int(st) }

// SetFloor records that everything below p is finished or dropped.
func (s *ChannelSlot) SetFloor(st Stream, p Pos) { s.store(s.words(st), p) }

// SetCursor records that everything below p was claimed. Stored after the claim and before the first byte is written to a consumer.
func (s *ChannelSlot) SetCursor(st Stream, p Pos) { s.store(s.words(st)+16, p) }

// Floor and Cursor return what is recorded; ok is false when value and complement disagree, then the lower plausible value is returned.
func (s *ChannelSlot) Floor(st Stream) (p Pos, ok bool)  { return s.load(s.words(st)) }
func (s *ChannelSlot) Cursor(st Stream) (p Pos, ok bool) { return s.load(s.words(st) + 16) }

func (s *ChannelSlot) store(o int, p Pos) {
	s.mustMoveForward(o, p)
	storeWord(s.mem, o, uint64(p))
	storeWord(s.mem, o+8, ^uint64(p))
}

func (s *ChannelSlot) load(o int) (Pos, bool) {
	v, c := loadWord(s.mem, o), ^loadWord(s.mem, o+8)
	if v == c {
		return Pos(v), true
	}
	if v == 0 && c == ^uint64(0) {
		return 0, true // never stored
	}
	// A kill between the two stores, or damage: the lower one that can be a position at all.
	lo, hi := min(v, c), max(v, c)
	if lo == 0 || lo > posMask {
		lo = hi
	}
	if lo > posMask {
		lo = 0
	}
	return Pos(lo), false
}
