package mmapq

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// State holds two bytes for every message of one channel and stream, addressed by position:
//
//	0            untouched: never delivered, or delivered once from the cursor (then the position is below the channel's cursor)
//	1..65534     deliveries so far, stored before the write of every delivery but the first; stays at 65534
//	65535        finished
//
// The file is never recycled (state that came back stale would read as finished messages that nobody finished): it grows ahead of the cursor,
// is punched behind the floor, and is mapped in windows. Words are changed with atomic operations, so the writer of a message (its lease) and
// the reclaimer that looks for the floor need no lock. A window is unmapped only when nothing in flight can lie in it (Channel.grace).
type State struct {
	st   *Store
	name string // file; empty: the state lives on the heap (ephemeral)
	base Pos    // position of byte 0 of the file; multiple of the window
	wins atomic.Pointer[stateWindows]

	dirty atomic.Bool // queued for the next sync round
}

// stateWindows is the immutable table of mapped windows; low is the index of wins[0]. A nil element is a window nobody needs.
type stateWindows struct {
	low  uint64
	wins []*stateWindow
}

type stateWindow struct {
	m     *Mapping
	alloc atomic.Int32           // bytes of m whose blocks exist; grows under the channel's mutex
	tail  atomic.Pointer[[]byte] // heap words for what lies behind alloc, once the disk gave no room
	saved bool                   // the file holds words although alloc is 0: a start found no room to map them for writing
}

// used is how many bytes of the window may hold states.
func (w *stateWindow) used() int {
	if w.tail.Load() != nil {
		return stateBytes
	}
	return int(w.alloc.Load())
}

// mem returns the memory that holds byte o of the window, nil where there is none.
func (w *stateWindow) mem(o int) []byte {
	if o < int(w.alloc.Load()) {
		return w.m.Mem
	}
	if t := w.tail.Load(); t != nil {
		return *t
	}
	return nil
}

const (
	stateShift    = 17 // messages per window, as a power of two
	stateMessages = 1 << stateShift
	stateBytes    = stateMessages * 2
	stateFirst    = 16 << 10 // bytes allocated at first

	// Finished is the state of a finished message.
	Finished = 65535
	// AttemptsMax is where the count of deliveries stops.
	AttemptsMax = 65534
)

func newState(st *Store, name string, start Pos) *State {
	s := &State{st: st, name: name, base: start &^ (stateMessages - 1)}
	s.wins.Store(&stateWindows{})
	return s
}

// Ensure makes the words of positions [p, p+n) usable. The caller holds the channel's mutex. It runs a fallocate of at most 256 KiB every
// 131,072 messages, also on a loop. Where the disk gives no room the window lives on the heap: messages go on being delivered and finished,
// and a kill brings them back as duplicates.
func (s *State) Ensure(p Pos, n int) {
	if p < s.base {
		panic(fmt.Sprintf("BUG: state of position %d below base %d", p, s.base))
	}
	first, last := uint64(p-s.base)>>stateShift, uint64(p-s.base+Pos(n)-1)>>stateShift
	for w := first; w <= last; w++ {
		end := stateBytes
		if w == last {
			end = int(uint64(p-s.base+Pos(n)-1)&(stateMessages-1))*2 + 2
		}
		win := s.window(w)
		if win == nil {
			win = s.addWindow(w, end)
		}
		if int(win.alloc.Load()) < end && win.tail.Load() == nil {
			s.growWindow(w, win, end)
		}
	}
}

func (s *State) window(w uint64) *stateWindow {
	t := s.wins.Load()
	if w < t.low || w-t.low >= uint64(len(t.wins)) {
		return nil
	}
	return t.wins[w-t.low]
}

func allocTarget(have, need int) int {
	to := max(have, stateFirst)
	for to < need {
		to *= 2
	}
	return min(to, stateBytes)
}

func (s *State) addWindow(w uint64, need int) *stateWindow {
	win := &stateWindow{}
	if s.name == "" {
		win.m = &Mapping{Mem: alignedBytes(stateBytes)}
		win.alloc.Store(stateBytes)
	} else {
		AtPoint(PointState)
		alloc := allocTarget(0, need)
		m, err := s.st.disk.MapWindow(s.name, int64(w)*stateBytes, stateBytes, alloc)
		s.st.newFiles.Store(true) // the first window makes the file
		if err != nil {
			s.toHeap(win, err)
			m, alloc = &Mapping{}, 0
		}
		win.m = m
		win.alloc.Store(int32(alloc))
	}
	s.putWindow(w, win)
	return win
}

func (s *State) toHeap(win *stateWindow, err error) {
	s.st.warn("channel state %s goes to memory for now: %v", s.name, err)
	t := alignedBytes(stateBytes)
	win.tail.Store(&t)
}

// putWindow publishes a new table with win at index w.
func (s *State) putWindow(w uint64, win *stateWindow) {
	old := s.wins.Load()
	if len(old.wins) == 0 {
		s.wins.Store(&stateWindows{low: w, wins: []*stateWindow{win}})
		return
	}
	low, high := min(w, old.low), max(w+1, old.low+uint64(len(old.wins)))
	t := &stateWindows{low: low, wins: make([]*stateWindow, high-low)}
	copy(t.wins[old.low-low:], old.wins)
	t.wins[w-low] = win
	s.wins.Store(t)
}

func (s *State) growWindow(w uint64, win *stateWindow, need int) {
	have := int(win.alloc.Load())
	to := allocTarget(have, need)
	AtPoint(PointState)
	if err := s.st.disk.GrowWindow(s.name, int64(w)*stateBytes, have, to); err != nil {
		s.toHeap(win, err)
		return
	}
	win.alloc.Store(int32(to))
}

// word returns the 32-bit word that holds p and the shift of its half; nil when p has no window.
func (s *State) word(p Pos) (*uint32, uint) {
	if p < s.base {
		return nil, 0
	}
	i := uint64(p - s.base)
	w := s.window(i >> stateShift)
	if w == nil {
		return nil, 0
	}
	o := int(i&(stateMessages-1)) * 2
	mem := w.mem(o)
	if mem == nil {
		return nil, 0
	}
	return word32(mem, o&^3), uint(o&2) * 8
}

// Get returns the state of p; 0 where nothing was ever stored.
func (s *State) Get(p Pos) uint16 {
	w, sh := s.word(p)
	if w == nil {
		return 0
	}
	return uint16(atomic.LoadUint32(w) >> sh)
}

// Finish marks p finished and tells whether it was not finished before: only then the FIN counts.
func (s *State) Finish(p Pos) bool {
	w, sh := s.word(p)
	if w == nil {
		return false
	}
	return atomic.OrUint32(w, uint32(Finished)<<sh)>>sh&0xffff != Finished
}

// SetAttempts stores the number of deliveries of p unless it is finished; it tells whether it stored.
func (s *State) SetAttempts(p Pos, n uint16) bool {
	w, sh := s.word(p)
	if w == nil {
		return false
	}
	for {
		old := atomic.LoadUint32(w)
		if uint16(old>>sh) == Finished {
			return false
		}
		mustCountUp(uint16(old>>sh), n)
		if atomic.CompareAndSwapUint32(w, old, old&^(0xffff<<sh)|uint32(n)<<sh) {
			return true
		}
	}
}

// Unfinished returns the first position in [from, to) that is not finished, or to.
func (s *State) Unfinished(from, to Pos) Pos {
	for p := from; p < to; {
		i := uint64(p - s.base)
		w := s.window(i >> stateShift)
		if w == nil {
			return p
		}
		o := int(i&(stateMessages-1)) * 2
		mem := w.mem(o)
		if mem == nil {
			return p
		}
		if o&7 == 0 && to-p >= 4 && loadWord(mem, o) == ^uint64(0) {
			p += 4
			continue
		}
		if s.Get(p) != Finished {
			return p
		}
		p++
	}
	return to
}

// Highest returns one more than the highest position at or above from that has a state, or from. Used at recovery, on file windows up to to.
func (s *State) Highest(from, to Pos) Pos {
	for p := to; p > from; {
		i := uint64(p - 1 - s.base)
		w := s.window(i >> stateShift)
		o := int(i&(stateMessages-1)) * 2
		switch {
		case w == nil || o >= w.used():
			// Nothing here: go to the end of what may exist below.
			back := Pos(i & (stateMessages - 1))
			if w != nil {
				back -= Pos(w.used() / 2)
			}
			if p-from <= back+1 {
				return from
			}
			p -= back + 1
		case o&7 == 6 && p-from >= 4 && loadWord(w.mem(o), o&^7) == 0:
			p -= 4
		case s.Get(p-1) != 0:
			return p
		default:
			p--
		}
	}
	return from
}

// MarkDirty queues the state for the next sync round. Called once a batch.
func (s *State) MarkDirty() {
	if s.name != "" && !s.dirty.Load() && s.dirty.CompareAndSwap(false, true) {
		s.st.sync.addState(s)
	}
}

// syncAll makes the mapped windows durable. Runs on the syncer.
func (s *State) syncAll() error {
	s.dirty.Store(false)
	for _, w := range s.wins.Load().wins {
		if w != nil {
			if err := w.m.SyncRange(0, int(w.alloc.Load())); err != nil {
				return err
			}
		}
	}
	return nil
}

// releasable tells whether Release(floor) has anything to do.
func (s *State) releasable(floor Pos) bool {
	t := s.wins.Load()
	return floor >= s.base && len(t.wins) > 0 && t.low < uint64(floor-s.base)>>stateShift
}

// Release gives up the windows that lie wholly below floor. The caller guarantees that nothing below floor is in flight any more and that no
// other goroutine adds windows or syncs meanwhile (channel mutex and the store's reclaim lock).
func (s *State) Release(floor Pos) error {
	if !s.releasable(floor) {
		return nil
	}
	old, keep := s.wins.Load(), uint64(floor-s.base)>>stateShift
	n := min(int(keep-old.low), len(old.wins))
	s.wins.Store(&stateWindows{low: old.low + uint64(n), wins: old.wins[n:]})
	for i, w := range old.wins[:n] {
		if w == nil {
			continue
		}
		if err := s.giveBack(old.low+uint64(i), w); err != nil {
			return err
		}
	}
	return nil
}

// Close unmaps everything; Remove also deletes the file.
func (s *State) Close() error {
	old := s.wins.Swap(&stateWindows{})
	for _, w := range old.wins {
		if w != nil {
			if err := w.m.Unmap(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove deletes the state for good.
func (s *State) Remove() error {
	if err := s.Close(); err != nil {
		return err
	}
	if s.name == "" {
		return nil
	}
	if err := s.st.disk.Remove(s.name); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}

// extent is the size of the file in messages: nothing behind it was ever stored.
func (s *State) extent() (Pos, error) {
	if s.name == "" {
		return 0, nil
	}
	f, err := s.st.disk.OpenFile(s.name, false)
	if isNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := f.Size()
	return Pos(n / 2), errors.Join(err, f.Close())
}

// load maps the windows that recovery has to look at: those of [from, to) that hold messages of l, as far as the file goes (ext). It returns the
// end of what can have a state.
func (s *State) load(l *Log, from, to, ext Pos) (Pos, error) {
	if ext == 0 {
		return from, nil
	}
	from = max(from, s.base)
	to = min(to, s.base+ext)
	for at := from; at < to; {
		if at, _ = l.Next(at, to); at >= to {
			break
		}
		w := uint64(at-s.base) >> stateShift
		// What is touched must be allocated: a store into a hole of a full disk is a signal. Windows are allocated from their start on.
		alloc := int(min(stateMessages, ext-Pos(w<<stateShift))) * 2
		win := &stateWindow{}
		m, err := s.st.disk.MapWindow(s.name, int64(w)*stateBytes, stateBytes, alloc)
		if isFull(err) {
			m, alloc, err = &Mapping{}, 0, s.loadToHeap(win, w, alloc, err)
		}
		if err != nil {
			return from, err
		}
		win.m = m
		win.alloc.Store(int32(alloc))
		s.putWindow(w, win)
		at = s.base + Pos((w+1)<<stateShift)
	}
	return max(from, to), nil
}

// loadToHeap reads window w where a full disk has no room to fill the holes of the file: the words are as they were, what changes from now on
// is not kept.
func (s *State) loadToHeap(win *stateWindow, w uint64, n int, why error) (err error) {
	f, err := s.st.disk.OpenFile(s.name, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s.toHeap(win, why)
	win.saved = true
	if _, err := f.ReadAt((*win.tail.Load())[:n], int64(w)*stateBytes); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
