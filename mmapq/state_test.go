package mmapq

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// spans are where a log has messages: dense pieces with the gaps that starts leave, and one that begins in the middle of a window.
func spans(base Pos) []posRange {
	a := base + 5000
	b := a + 300 + 1<<20
	c := b + 2*stateMessages + 77 + 1<<20
	d := c + 3 + 5<<20
	return []posRange{{base, a}, {a, a + 300}, {b, b + 2*stateMessages + 77}, {c, c + 3}, {d, d + 9000}}
}

// fakeLog has sealed segments at the given ranges and nothing in them.
func fakeLog(st *Store, ranges []posRange) *Log {
	l := st.newLog(&TopicMeta{ID: 1, Base: [2]Pos{ranges[0].from, ranges[0].from}}, StreamMain, false)
	var segs []*Segment
	for _, r := range ranges {
		s := &Segment{base: r.from, count: uint32(r.to - r.from)}
		s.sealed.Store(true)
		segs = append(segs, s)
	}
	l.segs.Store(&segs)
	l.committed.Store(uint64(ranges[len(ranges)-1].to))
	return l
}

// stateModel is what State promises, in a map.
type stateModel struct {
	words map[Pos]uint16
	floor Pos
}

func (m *stateModel) finish(p Pos) bool {
	was := m.words[p]
	m.words[p] = Finished
	return was != Finished
}

func (m *stateModel) setAttempts(p Pos, n uint16) bool {
	if m.words[p] == Finished {
		return false
	}
	m.words[p] = n
	return true
}

func (m *stateModel) unfinished(from, to Pos) Pos {
	for ; from < to && m.words[from] == Finished; from++ {
	}
	return from
}

func (m *stateModel) highest(from Pos) Pos {
	top := from
	for p, v := range m.words {
		if v != 0 {
			top = max(top, p+1)
		}
	}
	return top
}

// TestStateAgainstModel runs random operations on a state and on a map, over gaps, restarts and released windows.
func TestStateAgainstModel(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		for seed := range uint64(3) {
			st := open(t, d, small)
			base := Pos(1e12) + Pos(seed)*12345
			runStateModel(t, st, rand.New(rand.NewPCG(seed, 3)), stateName(seed+100, StreamMain), base)
			st.Abandon()
			require.NoError(t, d.Remove(stateName(seed+100, StreamMain)))
		}
	})
}

func runStateModel(t *testing.T, st *Store, r *rand.Rand, name string, base Pos) {
	t.Helper()
	ranges := spans(base)
	l := fakeLog(st, ranges)
	s := newState(st, name, base)
	m := &stateModel{words: map[Pos]uint16{}, floor: base}
	cursor := base
	pick := func() Pos { // a position that has a word: claimed and not below the floor
		p := m.floor + Pos(r.Uint64N(uint64(max(cursor-m.floor, 1))))
		if at, _ := l.Next(p, cursor); at < cursor {
			return at
		}
		return m.floor
	}
	for range 1500 {
		switch op := r.IntN(100); {
		case op < 15: // claim a run
			at, end := l.Next(cursor, l.Committed())
			n := int(min(end-at, Pos(1+r.IntN(6000))))
			if at < end {
				s.Ensure(at, n)
				cursor = at + Pos(n)
			}
		case op < 50:
			if p := pick(); p < cursor {
				require.Equal(t, m.finish(p), s.Finish(p), "finish %d", p)
			}
		case op < 65: // a whole run
			p := pick()
			_, end := l.Next(p, cursor)
			for end = min(end, p+Pos(r.IntN(3000))); p < end; p++ {
				if m.finish(p) != s.Finish(p) {
					t.Fatalf("finish %d", p)
				}
			}
		case op < 80:
			if p := pick(); p < cursor {
				n := uint16(1 + r.IntN(AttemptsMax))
				require.Equal(t, m.setAttempts(p, n), s.SetAttempts(p, n))
			}
		case op < 90:
			p := pick()
			require.Equal(t, m.words[p], s.Get(p))
			at, end := l.Next(p, cursor)
			require.Equal(t, m.unfinished(at, end), s.Unfinished(at, end))
		case op < 96: // raise the floor, often over all that was claimed
			for at := m.floor; op < 94 && at < cursor-min(cursor, Pos(r.IntN(1000))); {
				var end Pos
				if at, end = l.Next(at, cursor); at >= cursor {
					break
				}
				for ; at < end; at++ {
					if m.finish(at) != s.Finish(at) {
						t.Fatalf("finish %d", at)
					}
				}
			}
			for m.floor < cursor {
				at, end := l.Next(m.floor, cursor)
				if m.floor = m.unfinished(at, end); m.floor < end {
					break
				}
			}
			require.NoError(t, st.ReleaseState(s, m.floor))
			s.MarkDirty()
		case op < 98:
			st.sync.round()
			require.NoError(t, st.Failed())
		default: // a kill
			s = newState(st, name, base)
			ext, err := s.extent()
			require.NoError(t, err)
			known, err := s.load(l, m.floor, l.Committed(), ext)
			require.NoError(t, err)
			require.LessOrEqual(t, known, max(l.Committed(), m.floor))
			require.Equal(t, m.highest(m.floor), s.Highest(m.floor, known))
			if at, end := l.Next(m.floor, cursor); at < cursor {
				require.Equal(t, m.unfinished(at, end), s.Unfinished(at, end))
			}
			s.Ensure(m.floor, 1)
		}
	}
	for p, v := range m.words {
		if p >= m.floor && s.Get(p) != v {
			t.Fatalf("state of %d is %d, not %d", p, s.Get(p), v)
		}
	}
}

// TestStateWithoutRoom: where the disk gives no room the words live on the heap; nothing is refused, and what is on the disk stays there.
func TestStateWithoutRoom(t *testing.T) {
	for _, op := range []string{opWindow, opGrow} {
		t.Run(op, func(t *testing.T) {
			p := &planted{match: func(o, name string) bool { return o == op && strings.HasSuffix(name, ".state") }, forever: true}
			d := &faultDisk{Disk: NewHeapDisk(), before: p.before}
			st := open(t, d, small)
			base := Pos(8 * stateMessages)
			l := fakeLog(st, []posRange{{base, base + 4*stateMessages}})
			s := newState(st, stateName(1, StreamMain), base)
			m := &stateModel{words: map[Pos]uint16{}}
			r := rand.New(rand.NewPCG(1, 1))
			step := Pos(stateFirst / 2) // words of the first allocation
			for i := Pos(0); i < 40; i++ {
				if i == 30 {
					p.arm(1)
				}
				if i == 36 {
					p.heal()
				}
				at := base + i*step
				s.Ensure(at, int(step))
				for range 300 {
					p := base + Pos(r.Uint64N(uint64((i+1)*step)))
					if r.IntN(2) == 0 {
						require.Equal(t, m.finish(p), s.Finish(p))
					} else {
						require.Equal(t, m.setAttempts(p, 7), s.SetAttempts(p, 7))
					}
					require.Equal(t, m.words[p], s.Get(p))
				}
				require.Equal(t, m.unfinished(base, at+step), s.Unfinished(base, at+step))
			}
			s.MarkDirty()
			st.sync.round()
			require.NoError(t, st.Failed())
			// After a kill every word is what it was, or untouched: then the message comes again.
			s2 := newState(st, s.name, base)
			ext, err := s2.extent()
			require.NoError(t, err)
			_, err = s2.load(l, base, l.Committed(), ext)
			require.NoError(t, err)
			kept, lost := 0, 0
			for p, v := range m.words {
				switch s2.Get(p) {
				case v:
					kept++
				case 0:
					lost++
					require.GreaterOrEqual(t, p, base+32*step, "only windows that got no room")
				default:
					t.Fatalf("state of %d is %d, not %d", p-base, s2.Get(p), v)
				}
			}
			require.Positive(t, lost)
			require.Greater(t, kept, lost)
			require.NoError(t, s.Remove())
			require.NoError(t, s.Release(base+4*stateMessages), "nothing is left to release")
		})
	}
}

// TestStateInMemory: an ephemeral channel never touches the disk.
func TestStateInMemory(t *testing.T) {
	d := &faultDisk{Disk: NewHeapDisk()}
	st := open(t, d, small)
	d.before = func(op, name string) error {
		t.Errorf("%s %s", op, name)
		return nil
	}
	meta, logs, err := st.CreateTopic("t#ephemeral", true)
	require.NoError(t, err)
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 300, 1000))
	_, slot, states, err := st.CreateChannel(meta, "c", meta.Base, true)
	require.NoError(t, err)
	states[StreamMain].Ensure(meta.Base[StreamMain], 300)
	for p := meta.Base[StreamMain]; p < logs[StreamMain].Committed(); p++ {
		require.True(t, states[StreamMain].Finish(p))
	}
	states[StreamMain].MarkDirty()
	freeAll(t, logs[StreamMain])
	st.sync.round()
	require.NoError(t, st.ReleaseState(states[StreamMain], meta.Base[StreamMain]+2*stateMessages))
	require.NoError(t, st.DropChannel(slot, states, true))
	logs[StreamMain].Close()
	require.True(t, logs[StreamMain].Remove())
	require.Zero(t, len(st.man.model.topics)+len(st.man.model.segments))
	d.before = nil
}

// TestStateNeighbours: two messages share a word; their leases, the reclaimer's scan, growth and sync meet.
func TestStateNeighbours(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		base := Pos(stateMessages + 3)
		const n = 40000 // several growths
		s := newState(st, stateName(1, StreamMain), base)
		var ensured sync.Map
		var wg sync.WaitGroup
		gates := make([]chan struct{}, n/1000)
		for i := range gates {
			gates[i] = make(chan struct{})
		}
		wg.Go(func() {
			for i, g := range gates {
				s.Ensure(base+Pos(1000*i), 1000)
				ensured.Store(i, true)
				close(g)
			}
		})
		for w := range 4 {
			wg.Go(func() {
				for i := range n {
					if i%1000 == 0 {
						<-gates[i/1000]
					}
					p := base + Pos(i)
					switch {
					case i%4 != w:
					case i%5 == 0:
						if !s.SetAttempts(p, uint16(i)) {
							t.Errorf("attempts of %d not stored", i)
						}
					case !s.Finish(p):
						t.Errorf("%d was finished before", i)
					}
				}
			})
		}
		stop := make(chan struct{})
		var scan sync.WaitGroup
		scan.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if at := s.Unfinished(base, base+n); at != base {
					t.Errorf("the first one is never finished, %d", at-base)
					return
				}
				s.MarkDirty()
				st.sync.round()
			}
		})
		wg.Wait()
		close(stop)
		scan.Wait()
		for i := range n {
			want := uint16(Finished)
			if i%5 == 0 {
				want = uint16(i)
			}
			require.Equal(t, want, s.Get(base+Pos(i)))
		}
	})
}

// TestTable: slots are found again, a slot that is not the channel's own starts over, a deleted one is used again.
func TestTable(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		meta, _ := newTopic(t, st, "t")
		type one struct {
			c      ChannelMeta
			slot   *ChannelSlot
			states [2]*State
		}
		var all []one
		for i := range tablePer + 10 { // two chunks
			c, slot, states := newChannel(t, st, meta, string(rune('a'+i/26%26))+string(rune('a'+i%26))+string(rune('a'+i/676)), meta.Base)
			slot.SetFloor(StreamMain, meta.Base[StreamMain]+Pos(i))
			slot.SetCursor(StreamMain, meta.Base[StreamMain]+Pos(2*i))
			slot.SetCursor(StreamDeferred, meta.Base[StreamDeferred]+Pos(3*i))
			all = append(all, one{c, slot, states})
		}
		gone := all[5]
		require.NoError(t, st.DeleteChannel(gone.c, meta))
		require.NoError(t, st.DropChannel(gone.slot, gone.states, false))
		c, slot, states := newChannel(t, st, meta, "new", [2]Pos{meta.Base[0] + 77, meta.Base[1] + 78})
		require.Equal(t, uint32(5), slot.index)
		all[5] = one{c, slot, states}
		storeWord(all[9].slot.mem, 0, 12345) // never reached the disk
		st.table.chunks[0].Mem[10*tableSlot+16] ^= 1
		st = reopen(t, st)
		rt := topic(t, st, "t")
		for i, x := range all {
			_, slot, _, floor, cursor, err := recoverAll(st, x.c, rt)
			require.NoError(t, err)
			require.Equal(t, x.slot.index, slot.index)
			want := [4]Pos{meta.Base[0] + Pos(i), meta.Base[0] + Pos(2*i), meta.Base[1], meta.Base[1] + Pos(3*i)}
			switch i {
			case 5:
				want = [4]Pos{meta.Base[0] + 77, meta.Base[0] + 77, meta.Base[1] + 78, meta.Base[1] + 78}
			case 9:
				want = [4]Pos{meta.Base[0], meta.Base[0], meta.Base[1], meta.Base[1]}
			case 10:
				want[0] = min(want[0], want[0]^1)
			}
			require.Equal(t, want, [4]Pos{floor[0], cursor[0], floor[1], cursor[1]}, "channel %d", i)
		}
	})
}

// TestTornTableWords: value and complement disagree; what is taken is never above the truth.
func TestTornTableWords(t *testing.T) {
	s := &ChannelSlot{mem: alignedBytes(tableSlot)}
	_, ok := s.Floor(StreamMain)
	require.True(t, ok, "never stored")
	s.SetFloor(StreamMain, 1000)
	storeWord(s.mem, 16, 2000) // a kill between the two stores
	p, ok := s.Floor(StreamMain)
	require.False(t, ok)
	require.Equal(t, Pos(1000), p)
	storeWord(s.mem, 16, 1<<60)
	p, ok = s.Floor(StreamMain)
	require.False(t, ok)
	require.Equal(t, Pos(1000), p, "what cannot be a position is not taken")
	storeWord(s.mem, 24, 1<<50)
	p, ok = s.Floor(StreamMain)
	require.False(t, ok)
	require.Zero(t, p)
}

// TestDeletionThatCannotBeRecorded: the channel's place stays its own, or two channels would share it after the next start.
func TestDeletionThatCannotBeRecorded(t *testing.T) {
	p := &planted{match: func(op, name string) bool { return op == opWrite && name == ManifestName }, forever: true}
	d := &faultDisk{Disk: NewHeapDisk(), before: p.before}
	st := open(t, d, small)
	meta, _ := newTopic(t, st, "t")
	a, slotA, statesA := newChannel(t, st, meta, "a", meta.Base)
	p.match = func(op, name string) bool { return op == opWrite }
	p.arm(1)
	require.Error(t, st.DeleteChannel(a, meta))
	require.Error(t, st.DropChannel(slotA, statesA, false))
	p.heal()
	b, slotB, _ := newChannel(t, st, meta, "b", meta.Base)
	require.NotEqual(t, slotA.index, slotB.index)
	slotB.SetCursor(StreamMain, meta.Base[StreamMain]+50)
	st = reopen(t, st)
	rt := topic(t, st, "t")
	require.Len(t, rt.Meta.Channels, 2, "old or new, never neither")
	_, _, _, _, cursor, err := recoverAll(st, b, rt)
	require.NoError(t, err)
	require.Equal(t, meta.Base[StreamMain]+50, cursor[StreamMain])
	recoverChannels(t, st)
}
