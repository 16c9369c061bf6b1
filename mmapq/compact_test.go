package mmapq

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// needed is a Live that knows all it has to tell.
type needed map[Pos]bool

func (n needed) Ripe(Pos) bool { return true }

func (n needed) Each(from, to Pos, f func(Pos) bool) {
	for p := from; p < to; p++ {
		if n[p] && !f(p) {
			return
		}
	}
}

// every returns every step-th position of l.
func every(t *testing.T, l *Log, step int) needed {
	n := needed{}
	for i, m := range readAll(t, l) {
		if i%step == 0 {
			n[m.pos] = true
		}
	}
	return n
}

func compactAll(t *testing.T, l *Log, n needed) (times int) {
	t.Helper()
	for {
		done, err := l.Compact(l.Committed(), 32<<10, n)
		require.NoError(t, err)
		l.FreeReplaced()
		if !done {
			return times
		}
		times++
	}
}

func (n needed) in(list []message) map[Pos]string {
	got := map[Pos]string{}
	for _, m := range list {
		if n[m.pos] {
			got[m.pos] = m.body
		}
	}
	return got
}

func segmentBytes(l *Log) (files, bytes int) {
	for _, s := range *l.segs.Load() {
		bytes += len(s.mem)
	}
	return len(*l.segs.Load()), bytes
}

// TestCompactKeepsPositions: what is needed stays where it was, to readers, to counts of what lies behind, over kills and further compactions.
func TestCompactKeepsPositions(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		for _, step := range []int{1, 3, 7, 50, 1000} {
			t.Run(fmt.Sprint(step), func(t *testing.T) {
				if h, ok := d.(*HeapDisk); ok {
					h.files = map[string]*heapFile{}
				} else {
					d = NewRealDisk(t.TempDir())
				}
				st := open(t, d, small)
				_, logs := newTopic(t, st, "t")
				l := logs[StreamMain]
				appendAll(t, l, makeBodies(1, 0, 1500, 900))
				st.sync.round()
				all := readAll(t, l)
				n := every(t, l, step)
				want := n.in(all)
				files, bytes := segmentBytes(l)
				end := l.Committed()
				ordEnd := l.Ordinal(end)
				times := compactAll(t, l, n)
				if step == 1 {
					require.Zero(t, times, "all of it is needed")
					return
				}
				require.Positive(t, times)
				nowFiles, nowBytes := segmentBytes(l)
				require.Less(t, nowFiles, files)
				require.Less(t, nowBytes, bytes*2/step+3*64<<10)
				check := func(l *Log) {
					got := map[Pos]string{}
					for _, m := range readAll(t, l) {
						got[m.pos] = m.body
					}
					for p, body := range want {
						require.Equal(t, body, got[p])
						at, stop := l.Next(p, end)
						require.Equal(t, p, at)
						require.Greater(t, stop, p)
					}
					require.Equal(t, n.in(readAll(t, l)), want)
					last := uint64(0)
					for _, m := range all {
						o := l.Ordinal(m.pos)
						require.GreaterOrEqual(t, o, last)
						last = o
					}
				}
				check(l)
				require.Equal(t, ordEnd, l.Ordinal(end), "counts of what lies behind do not change")
				requirePins(t, l)
				st = reopen(t, st)
				l = topic(t, st, "t").Logs[StreamMain]
				check(l)
				// More of it is finished, more is published.
				appendAll(t, l, makeBodies(1, 1500, 500, 900))
				st.sync.round()
				for i, p := range slices.Sorted(maps.Keys(want)) {
					if i%3 > 0 {
						delete(n, p)
						delete(want, p)
					}
				}
				for _, m := range readAll(t, l) {
					if m.pos >= end {
						n[m.pos], want[m.pos] = true, m.body
					}
				}
				compactAll(t, l, n)
				end = l.Committed()
				check(l)
				l.Truncate(func(from, to Pos) bool { return to > end || len(n.in(readLog(t, l, from, to, 256, 64<<10))) > 0 })
				check(l)
				st = reopen(t, st)
				check(topic(t, st, "t").Logs[StreamMain])
				names, err := d.List()
				require.NoError(t, err)
				for _, name := range names {
					require.NotContains(t, name, "damaged")
				}
			})
		}
	})
}

// TestCompactDeferred: due times stay with their messages.
func TestCompactDeferred(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamDeferred]
	want := map[Pos]int64{}
	n := needed{}
	for i := range 1000 {
		end, err := l.AppendWait([][]byte{makeBody(1, i, 700)}, 1, int64(1e12)+int64(i))
		require.NoError(t, err)
		if i%9 == 0 {
			n[end-1], want[end-1] = true, int64(1e12)+int64(i)
		}
	}
	st.sync.round()
	require.Positive(t, compactAll(t, l, n))
	for range 2 {
		got := map[Pos]int64{}
		for p := Pos(0); p < l.Committed(); {
			p = l.EachDue(p, l.Committed(), 100, func(at Pos, due int64) {
				if n[at] {
					got[at] = due
				}
			})
		}
		require.Equal(t, want, got)
		st = reopen(t, st)
		l = topic(t, st, "t").Logs[StreamDeferred]
	}
}

// TestCompactInMemory: an ephemeral topic gives its memory back as well.
func TestCompactInMemory(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	_, logs, err := st.CreateTopic("t#ephemeral", true)
	require.NoError(t, err)
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 1000, 900))
	n := every(t, l, 30)
	want := n.in(readAll(t, l))
	require.Positive(t, compactAll(t, l, n))
	require.Equal(t, want, n.in(readAll(t, l)))
	names, err := d.List()
	require.NoError(t, err)
	require.LessOrEqual(t, len(names), 2, "%v", names)
}

// TestPinnedIsFreedLater: a run that is being written out keeps the segment it lies in, though readers find another one now.
func TestPinnedIsFreedLater(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 1000, 900))
	st.sync.round()
	n := every(t, l, 30)
	r, _ := l.Run(0, l.Committed(), 10, 64<<10)
	require.Equal(t, 10, r.N)
	copied := string(r.Bytes)
	compactAll(t, l, n)
	require.Len(t, l.replaced, 1)
	l.Close()
	awaitPreparer(l)
	require.False(t, l.Remove())
	require.Equal(t, copied, string(r.Bytes))
	r.Release()
	require.True(t, l.Remove())
	require.Empty(t, l.replaced)
}

func awaitPreparer(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.asked {
		l.ready.Wait()
	}
}

// cutScript is what happens in the two tests that follow: need is told what is needed while segments are compacted.
func cutScript(t *testing.T, d Disk, need func(needed, map[Pos]string)) {
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 600, 900))
	st.sync.round()
	require.NoError(t, st.Failed())
	compact := func(n needed) {
		awaitPreparer(l) // nobody else uses the disk
		need(n, n.in(readAll(t, l)))
		require.Positive(t, compactAll(t, l, n))
		need(nil, nil)
	}
	n := every(t, l, 20)
	compact(n)
	appendAll(t, l, makeBodies(1, 600, 300, 900))
	st.sync.round()
	n = every(t, l, 21)
	for p := range n {
		if p%4 == 0 {
			delete(n, p)
		}
	}
	compact(n)
	st.Abandon()
}

// TestPowerCutWhileCompacting: before every operation on the disk, what is needed is there once, whatever the kernel wrote of the rest.
func TestPowerCutWhileCompacting(t *testing.T) {
	for seed := range uint64(8) {
		d := newCrashDisk()
		r := rand.New(rand.NewPCG(seed, 5))
		if seed == 0 {
			r = nil
		}
		var mu sync.Mutex
		var want map[Pos]string
		var n needed
		cuts := 0
		d.before = func() {
			mu.Lock()
			defer mu.Unlock()
			if want == nil || t.Failed() {
				return
			}
			cuts++
			left := d.afterCut(r)
			var wg sync.WaitGroup
			wg.Go(func() { requireNeeded(t, left, n, want, fmt.Sprintf("seed %d, cut %d", seed, cuts)) })
			wg.Wait()
		}
		cutScript(t, d, func(is needed, bodies map[Pos]string) {
			mu.Lock()
			defer mu.Unlock()
			n, want = is, bodies
		})
		require.Greater(t, cuts, 10)
	}
}

func requireNeeded(t *testing.T, left Disk, n needed, want map[Pos]string, what string) {
	t.Helper()
	st, err := Open(left, small)
	require.NoError(t, err, what)
	defer st.Abandon()
	l := topic(t, st, "t").Logs[StreamMain]
	for i, s := range (*l.segs.Load())[1:] {
		if before := (*l.segs.Load())[i]; s.base < before.end() {
			t.Fatalf("%s: segments %d and %d overlap", what, i, i+1)
		}
	}
	list := readAll(t, l)
	require.True(t, slices.IsSortedFunc(list, func(a, b message) int { return int(a.pos) - int(b.pos) }), what)
	got := n.in(list)
	if !maps.Equal(want, got) {
		t.Fatalf("%s: %d messages of %d are there", what, len(got), len(want))
	}
}

// TestKillWhileCompacting: the same for a kill, which leaves everything that was written.
func TestKillWhileCompacting(t *testing.T) {
	for kill := 1; ; kill++ {
		d := newCrashDisk()
		var mu sync.Mutex
		var want map[Pos]string
		var n needed
		ops := 0
		d.before = func() {
			mu.Lock()
			defer mu.Unlock()
			if want == nil || t.Failed() {
				return
			}
			if ops++; ops == kill {
				left := d.clone()
				var wg sync.WaitGroup
				wg.Go(func() { requireNeeded(t, left, n, want, fmt.Sprintf("kill %d", kill)) })
				wg.Wait()
			}
		}
		cutScript(t, d, func(is needed, bodies map[Pos]string) {
			mu.Lock()
			defer mu.Unlock()
			n, want = is, bodies
		})
		if ops < kill || t.Failed() {
			require.Greater(t, kill, 8)
			return
		}
	}
}

// TestCompactFails: whatever operation fails, nothing that is needed is lost, and the next attempt works if the failure was no lost sync.
func TestCompactFails(t *testing.T) {
	for _, forever := range []bool{false, true} {
		for at := 1; ; at++ {
			d := NewHeapDisk()
			p := &planted{match: func(string, string) bool { return true }, forever: forever}
			st := open(t, &faultDisk{Disk: d, before: p.before}, small)
			_, logs := newTopic(t, st, "t")
			l := logs[StreamMain]
			appendAll(t, l, makeBodies(1, 0, 600, 900))
			st.sync.round()
			n := every(t, l, 20)
			want := n.in(readAll(t, l))
			p.arm(at)
			_, err := l.Compact(l.Committed(), 32<<10, n)
			if err != nil {
				require.ErrorIs(t, err, errPlanted)
			}
			l.FreeReplaced()
			hits := p.hits()
			require.Equal(t, want, n.in(readAll(t, l)), "operation %d", at)
			p.arm(0)
			if st.Failed() == nil {
				compactAll(t, l, n)
				require.Equal(t, want, n.in(readAll(t, l)), "operation %d", at)
			}
			st.Abandon()
			requireNeeded(t, d, n, want, fmt.Sprintf("operation %d", at))
			if hits == 0 {
				require.Greater(t, at, 5)
				break
			}
		}
	}
}

// TestDamageOfACompactedSegment: what a bit costs. A message: that one. One copy of the header, its words, the table of positions: nothing.
func TestDamageOfACompactedSegment(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 600, 900))
	st.sync.round()
	n := every(t, l, 20)
	want := n.in(readAll(t, l))
	require.Positive(t, compactAll(t, l, n))
	s := (*l.segs.Load())[0]
	require.NotNil(t, s.table)
	name, size, count := slotName(s.slot.id), len(s.mem), s.count
	table, low := tableAt(size, count), s.entryAt(count-1)
	used := int(s.offset(count-1)) + len(s.frame(count-1))
	hit := map[int]Pos{} // byte -> the message that it belongs to
	for i := range count {
		for k := range len(s.frame(i)) {
			hit[int(s.offset(i))+k] = s.position(i)
		}
		for k := range entrySize {
			hit[s.entryAt(i)+k] = s.position(i)
		}
	}
	st.Abandon()
	for at := 0; at < size; at++ {
		if at >= headerCopy+256 && at < headerSize || at >= used && at < table || at%7 > 0 && at >= headerSize && at < low-64 && at < table-64 {
			continue
		}
		left := d.clone()
		left.files[name].buf[at] ^= 1 << (at % 8)
		expect := maps.Clone(want)
		delete(expect, hit[at])
		st, err := Open(left, small)
		require.NoError(t, err)
		got := n.in(readAll(t, topic(t, st, "t").Logs[StreamMain]))
		if !maps.Equal(expect, got) {
			t.Fatalf("byte %d (table at %d, entries at %d): %d messages of %d", at, table, low, len(got), len(expect))
		}
		st.Abandon()
	}
}

// TestSyncPassesCompacted: what was not synced when its neighbours were compacted is synced by the next round.
func TestSyncPassesCompacted(t *testing.T) {
	d := newCrashDisk()
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 600, 900))
	all := readAll(t, l)
	n := needed{}
	for i, m := range all {
		n[m.pos] = i < 100 || i > 400 || i%20 == 0 // the segments in the middle are few messages' only
	}
	want := n.in(all)
	require.Positive(t, compactAll(t, l, n))
	awaitPreparer(l)
	segs := *l.segs.Load()
	require.Nil(t, segs[0].table)
	require.Less(t, segs[0].durable.Load(), segs[0].count)
	st.sync.round()
	require.NoError(t, st.Failed())
	require.True(t, l.Durable(l.Committed()))
	requireNeeded(t, d.afterCut(nil), n, want, "after a round")
}

// TestCompactKeepsOrdinals: nothing behind what is compacted seems to have been published meanwhile, also when nothing lies behind it yet.
func TestCompactKeepsOrdinals(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 600, 900))
	st = reopen(t, st)
	l := topic(t, st, "t").Logs[StreamMain]
	n := every(t, l, 20)
	end := l.Committed()
	before := l.Ordinal(end)
	require.Positive(t, compactAll(t, l, n))
	for range 3 {
		compactAll(t, l, n)
		require.Equal(t, before, l.Ordinal(end))
		require.Equal(t, before, l.Ordinal(end+5))
		for p := range n {
			if p%4 > 0 {
				delete(n, p)
			}
		}
	}
	appendAll(t, l, makeBodies(1, 600, 10, 900))
	require.Equal(t, before, l.Ordinal(end))
	require.Equal(t, before+10, l.Ordinal(l.Committed()))
}

// TestDroppedBehindAHole: a dropped range that begins where a segment was that is gone hides what lies in it.
func TestDroppedBehindAHole(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	var ends []Pos
	for i := range 3 {
		ends = append(ends, appendAll(t, l, makeBodies(1, 10*i, 10, 100)))
		st = reopen(t, st)
		l = topic(t, st, "t").Logs[StreamMain]
	}
	require.NoError(t, l.Drop(ends[1]-3, ends[2]))
	require.Equal(t, 1, l.Truncate(func(from, to Pos) bool { return to != ends[1] }))
	for range 2 {
		require.Len(t, readAll(t, l), 10)
		at, _ := l.Next(ends[0], ends[2])
		require.Equal(t, ends[2], at)
		st = reopen(t, st)
		l = topic(t, st, "t").Logs[StreamMain]
	}
}
