package mmapq

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// leaveUnwritten reserves room for bodies and never writes them: what a kill leaves of a writer that was descheduled.
func leaveUnwritten(t *testing.T, l *Log, bodies [][]byte) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size, _ := fit(bodies, l.open.room())
	require.Equal(t, len(bodies), n)
	l.open.count += uint32(n)
	l.open.tail += uint32(size)
	l.pending = append(l.pending, reservation{seg: l.open, end: l.open.end()})
}

// TestHoleOfAnUnfinishedWriter: what was answered behind a reservation that was never filled is there after a kill, the hole is not, and this
// stays so however often the daemon is killed, synced or stopped afterwards.
func TestHoleOfAnUnfinishedWriter(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		l := logs[StreamMain]
		appendAll(t, l, makeBodies(1, 0, 5, 100))
		before := l.Committed()
		leaveUnwritten(t, l, makeBodies(9, 0, 3, 2000))
		appendAll(t, l, makeBodies(1, 5, 5, 100))
		leaveUnwritten(t, l, makeBodies(9, 9, 1, 100))
		require.Equal(t, before, l.Committed(), "nobody reads past a writer that is not done")
		var want []string
		for _, b := range makeBodies(1, 0, 10, 100) {
			want = append(want, string(b))
		}
		end := l.open.end()
		for life := range 6 {
			st = reopen(t, st)
			l = topic(t, st, "t").Logs[StreamMain]
			list := readAll(t, l)
			var got []string
			for _, m := range list {
				got = append(got, m.body)
			}
			require.Equal(t, want, got, "life %d", life)
			require.Equal(t, before, list[4].pos+1)
			require.Equal(t, before+3, list[5].pos)
			require.Equal(t, uint64(3), l.DeadBetween(0, l.Committed()))
			require.Equal(t, uint64(len(want)+3), l.Ordinal(l.Committed()))
			if life%2 == 0 {
				st.sync.round()
				require.NoError(t, st.Failed())
				require.Zero(t, l.AtRisk())
			}
			if life >= 2 {
				appendAll(t, l, [][]byte{[]byte("more")})
				want = append(want, "more")
				require.Greater(t, l.Committed(), end)
			}
		}
	})
}

// TestUnfinishedWriterAcrossSegments: the hole lies at the end of a segment that was sealed meanwhile.
func TestUnfinishedWriterAcrossSegments(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 50, 1000))
	first := l.open
	leaveUnwritten(t, l, makeBodies(9, 0, 3, 1000))
	hole := first.end()
	appendAll(t, l, makeBodies(1, 50, 50, 1000))
	require.True(t, first.sealed.Load())
	require.Zero(t, l.Truncate(func(Pos, Pos) bool { return false }), "nothing is freed under a reservation")
	l.finish(l.firstRes, first, 0, 0, nil)
	require.Equal(t, 1, l.Truncate(func(from, to Pos) bool { return from >= hole }))

	st = open(t, NewHeapDisk(), small)
	_, logs = newTopic(t, st, "t")
	l = logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 50, 1000))
	leaveUnwritten(t, l, makeBodies(9, 0, 3, 1000))
	hole = l.open.end()
	appendAll(t, l, makeBodies(1, 50, 50, 1000))
	for range 3 {
		st = reopen(t, st)
		l = topic(t, st, "t").Logs[StreamMain]
		list := readAll(t, l)
		require.Len(t, list, 100)
		require.Equal(t, hole-3, list[49].pos+1)
		require.Equal(t, hole, list[50].pos)
		require.Equal(t, uint64(100), l.Ordinal(l.Committed())-l.DeadBetween(0, l.Committed()))
		st.sync.round()
	}
}

// TestPreparedButNeverUsed: a segment whose record is there and whose header is not holds nothing and is given back.
func TestPreparedButNeverUsed(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		l := logs[StreamMain]
		appendAll(t, l, makeBodies(1, 0, 40, 1000)) // more than half full: the next one is prepared
		l.mu.Lock()
		for l.asked {
			l.ready.Wait()
		}
		require.NotNil(t, l.next)
		l.mu.Unlock()
		require.Len(t, segmentFiles(t, d), 2)
		for range 3 {
			st = reopen(t, st)
			l = topic(t, st, "t").Logs[StreamMain]
			require.Len(t, readAll(t, l), 40)
			require.Len(t, segmentFiles(t, d), 1)
		}
		appendAll(t, l, makeBodies(1, 40, 60, 1000))
		st = reopen(t, st)
		require.Len(t, readAll(t, topic(t, st, "t").Logs[StreamMain]), 100)
	})
}

func segmentFiles(t testing.TB, d Disk) []string {
	t.Helper()
	names, err := d.List()
	require.NoError(t, err)
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".seg") })
}

// TestLeftoverFiles: files that no record speaks of are removed at start, and one that appears later only costs its number.
func TestLeftoverFiles(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		appendAll(t, logs[StreamMain], makeBodies(1, 0, 3, 10))
		for id := uint32(2); id < 5; id++ {
			_, err := d.CreateMapped(slotName(id), 64<<10)
			require.NoError(t, err)
		}
		_, err := d.CreateMapped("nsqloop.something else", 64<<10)
		require.NoError(t, err)
		st = reopen(t, st)
		require.Equal(t, []string{slotName(1)}, segmentFiles(t, d))
		l := topic(t, st, "t").Logs[StreamMain]
		_, err = d.CreateMapped(slotName(2), 64<<10)
		require.NoError(t, err)
		_, err = l.AppendWait([][]byte{[]byte("x")}, 1, 0)
		require.Error(t, err)
		require.Eventually(t, func() bool {
			_, err := l.AppendWait([][]byte{[]byte("x")}, 1, 0)
			return err == nil
		}, 5*prepareRetry, prepareRetry/10)
		names, err := d.List()
		require.NoError(t, err)
		require.Contains(t, names, "nsqloop.something else", "what is not ours is not touched")
	})
}

// TestSegmentFileOfAnotherSize: a file that is too short for what the manifest says does not stop the start, and is not deleted if it was in use.
func TestSegmentFileOfAnotherSize(t *testing.T) {
	for name, size := range map[string]int{"empty": 0, "less than a header": 100, "half": 32 << 10, "longer": 128 << 10} {
		t.Run(name, func(t *testing.T) {
			d := NewHeapDisk()
			st := open(t, d, small)
			_, logs := newTopic(t, st, "t")
			l := logs[StreamMain]
			appendAll(t, l, makeBodies(1, 0, 100, 1000))
			segs := *l.segs.Load()
			require.Len(t, segs, 2)
			end := segs[0].end()
			st.Abandon()
			f := d.files[slotName(segs[0].slot.id)]
			f.buf = slices.Grow(f.buf, size)[:min(size, len(f.buf))]
			f.buf = append(f.buf, make([]byte, size-len(f.buf))...)
			st = reopen(t, st)
			l = topic(t, st, "t").Logs[StreamMain]
			list := readAll(t, l)
			if size > 64<<10 {
				require.Len(t, list, 100)
				return
			}
			require.Len(t, list, 100-int(segs[0].count))
			require.Equal(t, end, list[0].pos)
			names, err := d.List()
			require.NoError(t, err)
			require.Equal(t, size >= headerSize, slices.Contains(names, slotName(segs[0].slot.id)+".damaged"))
			require.NotContains(t, names, slotName(segs[0].slot.id))
			appendAll(t, l, makeBodies(2, 0, 100, 1000))
			require.Len(t, readAll(t, topic(t, reopen(t, st), "t").Logs[StreamMain]), len(list)+100)
		})
	}
}

// TestBothHeaderCopiesDamaged: the messages say who they are.
func TestBothHeaderCopiesDamaged(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, Options{SegmentMax: 64 << 10, Node: 9})
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 150, 1000))
	want := readAll(t, l)
	segs := *l.segs.Load()
	require.Len(t, segs, 3)
	total := l.Ordinal(l.Committed())
	st.Abandon()
	for _, s := range segs {
		clear(d.files[slotName(s.slot.id)].buf[:headerSize])
	}
	s := segs[1]
	s.mem[s.offset(0)+FrameHeader]++ // and its first message, too
	for life := range 3 {
		st = open(t, d, Options{SegmentMax: 64 << 10, Node: 9})
		l = topic(t, st, "t").Logs[StreamMain]
		got := readAll(t, l)
		require.Equal(t, slices.DeleteFunc(slices.Clone(want), func(m message) bool { return m.pos == s.base }), got, "life %d", life)
		require.Equal(t, total, l.Ordinal(l.Committed()))
		st.sync.round()
		st.Abandon()
	}
}

// TestDamageFoundByAReader: an entry of a segment that was taken as it was at start is damaged. It costs one message, for every channel, and is
// counted once.
func TestDamageFoundByAReader(t *testing.T) {
	d := NewHeapDisk()
	var said []string
	o := small
	o.Warn = func(format string, args ...any) { said = append(said, format) }
	st := open(t, d, o)
	_, logs := newTopic(t, st, "t")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 50, 1000))
	st.sync.round()
	st = reopen(t, st) // seals
	st = reopen(t, st) // trusts the seal
	l := topic(t, st, "t").Logs[StreamMain]
	s := (*l.segs.Load())[0]
	require.True(t, s.unscanned)
	for _, i := range []uint32{7, 20, 21, 22, 49} {
		s.mem[int(s.offset(i))+FrameHeader+500] ^= 1
	}
	putEntry(s.mem[s.entryAt(30):], entry{offset: 1 << 31})
	require.Zero(t, st.Recovered().Damaged)
	for range 3 {
		require.Len(t, readLog(t, l, 0, l.Committed(), 256, 20000), 44)
		require.Len(t, readLog(t, l, 0, l.Committed(), 3, 1<<20), 44)
		require.Equal(t, int64(6), st.Recovered().Damaged)
		require.Equal(t, uint64(6), l.DeadBetween(0, l.Committed()))
	}
	require.Len(t, said, 4, "one line for each range")
	r, next := l.Run(s.base+20, s.base+23, 10, 1<<20)
	require.Zero(t, r.N)
	require.Equal(t, s.base+23, next)
	at, end := l.Next(s.base+19, s.base+40)
	require.Equal(t, []Pos{s.base + 19, s.base + 20}, []Pos{at, end})
	at, end = l.Next(s.base+20, s.base+40)
	require.Equal(t, []Pos{s.base + 23, s.base + 30}, []Pos{at, end})
	requirePins(t, l)
}

// TestStartSyncsWhatItFinds: what a kill left in the kernel's pages is not called durable before a round covered it, and is covered without any
// new publish.
func TestStartSyncsWhatItFinds(t *testing.T) {
	synced := map[string]bool{}
	d := &faultDisk{Disk: NewHeapDisk(), before: func(op, name string) error {
		if op == opMsync {
			synced[name] = true
		}
		return nil
	}}
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 100, 1000))
	st.sync.round()
	appendAll(t, logs[StreamMain], makeBodies(1, 100, 50, 1000))
	for range 2 {
		clear(synced)
		st = reopen(t, st)
		l := topic(t, st, "t").Logs[StreamMain]
		require.False(t, l.Durable(l.Committed()))
		require.Equal(t, uint64(50), l.AtRisk())
	}
	l := topic(t, st, "t").Logs[StreamMain]
	st.sync.round()
	require.True(t, l.Durable(l.Committed()))
	require.Zero(t, l.AtRisk())
	require.NotEmpty(t, synced)
	st = reopen(t, st)
	l = topic(t, st, "t").Logs[StreamMain]
	require.True(t, l.Durable(l.Committed()), "the seal and the word say so")
}

// TestCleanStop: a start after it scans nothing, and nothing is at risk.
func TestCleanStop(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		newTopic(t, st, "empty")
		want := 0
		for range 3 {
			appendAll(t, logs[StreamMain], makeBodies(1, 0, 100, 1000))
			want += 100
			for _, l := range logs {
				l.Close()
			}
			_, _, err := logs[StreamMain].Append(makeBodies(1, 0, 1, 1), 1, 0)
			require.ErrorIs(t, err, ErrExiting)
			require.Len(t, readAll(t, logs[StreamMain]), want, "still readable")
			require.NoError(t, st.Close())
			st = open(t, d, small)
			require.Zero(t, st.Recovered().Scanned)
			logs = topic(t, st, "t").Logs
			require.True(t, logs[StreamMain].Durable(logs[StreamMain].Committed()))
			require.Len(t, readAll(t, logs[StreamMain]), want)
		}
	})
}

// TestStaleBytesCostLittle: whatever an earlier life left behind the end of a log, looking at it is bounded. Without the bound this takes hours.
func TestStaleBytesCostLittle(t *testing.T) {
	const size, hostile = 16 << 20, 100_000
	mem := alignedBytes(size)
	s := &Segment{mem: mem, salt: 1, base: 1000, idBase: IDPrefix(0, StreamMain) | 1000}
	w := writing{seg: s, off: headerSize, bodies: [][]byte{[]byte("only one")}, ts: 1}
	require.NoError(t, w.run())
	// Every entry behind it points at a frame of its own position that claims most of the segment.
	for i := uint32(1); i < hostile; i++ {
		off := 8192 + 40*int(i)
		putFrameHeader(mem[off:], 10<<20, 1, s.idBase+uint64(i))
		putEntry(mem[s.entryAt(i):], entry{offset: uint32(off)})
	}
	require.True(t, s.holds(s.entry(1), headerSize, s.entryAt(1)) && s.holds(s.entry(hostile-1), headerSize, s.entryAt(hostile-1)), "the scene is what it says")
	require.Zero(t, s.scan(0, s.capacity()))
	require.Equal(t, uint32(1), s.count)
	require.Equal(t, "only one", string(s.frame(0)[FrameHeader:]))
}
