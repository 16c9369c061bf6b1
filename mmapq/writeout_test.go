package mmapq

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fillOne makes the open segment of l one that is filled as l.fills says, empty but for one small message.
func fillOne(t *testing.T, l *Log, fills fillRate) *Segment {
	t.Helper()
	appendAll(t, l, makeBodies(7, 0, 1, 20))
	l.mu.Lock()
	l.fills = fills
	first := l.open
	l.ask(first.room()) // does not fit into what is left of it
	for l.asked {
		l.ready.Wait()
	}
	if err := l.roll(20); err != nil {
		t.Error(err)
	}
	s := l.open
	l.mu.Unlock()
	require.NotSame(t, first, s)
	appendAll(t, l, makeBodies(7, 1, 1, 20))
	return s
}

// TestWrittenSegment: whatever the sizes, what system calls wrote reads like what was stored, also after a kill.
func TestWrittenSegment(t *testing.T) {
	var bodies [][]byte
	for _, part := range []struct{ n, size int }{
		{3000, 30}, {1, stagedBody - 1}, {2, stagedBody}, {1, stagedBody + 1}, {40, 5000}, {1, stagedFrames}, {1, 300 << 10}, {3, 100},
		{1, stagedBody - FrameHeader}, {stagedEntries, 60},
	} {
		bodies = append(bodies, makeBodies(1, len(bodies), part.n, part.size)...)
	}
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, Options{SyncTimeout: time.Hour})
		st.large = 1
		_, logs := newTopic(t, st, "t")
		l := logs[StreamMain]
		var want []string
		for at, step := 0, 1; at < len(bodies); step = step%1500 + 700 {
			n := min(step, len(bodies)-at)
			appendAll(t, l, bodies[at:at+n])
			for _, b := range bodies[at : at+n] {
				want = append(want, string(b))
			}
			at += n
		}
		same := func(l *Log) {
			got := readAll(t, l)
			require.Len(t, got, len(want))
			for i := range got {
				require.True(t, got[i].body == want[i], "message %d", i)
			}
		}
		same(l)
		written := 0
		for _, s := range *l.segs.Load() {
			if s.byWrite {
				written++
			}
		}
		require.Positive(t, written)
		st = reopen(t, st)
		require.Positive(t, st.Recovered().Scanned)
		require.Zero(t, st.Recovered().Damaged)
		same(topic(t, st, "t").Logs[StreamMain])
	})
}

// TestHowSegmentsAreFilled: the next segment is prepared for batches like those of the last one.
func TestHowSegmentsAreFilled(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		l := logs[StreamMain]
		fill := func(n, size int) *Segment {
			was := l.open
			for l.open == was {
				appendAll(t, l, makeBodies(1, 0, n, size))
			}
			return l.open
		}
		require.False(t, fill(1, 100).byWrite, "nothing is known yet")
		require.False(t, fill(20, 100).byWrite)
		s := fill(20, 1000)
		require.True(t, s.byWrite)
		require.Equal(t, s.slot.m.open != nil, s.slot.m.writer != nil)
		require.True(t, fill(1, 20000).byWrite)
		require.False(t, fill(20, 100).byWrite)
		require.True(t, fill(1, 200<<10).byWrite, "a body that waits tells as well")
	})
}

// TestWriterIsClosed: only segments that may still be written to have a descriptor.
func TestWriterIsClosed(t *testing.T) {
	st := open(t, NewRealDisk(t.TempDir()), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	for i := range 20 {
		appendAll(t, l, makeBodies(1, i*10, 10, 2000))
	}
	st.sync.round()
	require.NoError(t, st.Failed())
	segs := *l.segs.Load()
	require.Greater(t, len(segs), 4)
	require.True(t, l.open.byWrite)
	for _, s := range segs {
		require.Equal(t, s == l.open, s.slot.m.writer != nil)
	}
}

// TestFailedWrite: a disk without room refuses what did not fit and is tried again; any other failure ends publishing, as no reader can tell
// any more what the kernel keeps.
func TestFailedWrite(t *testing.T) {
	for _, c := range []struct {
		err   error
		fatal bool
	}{{syscall.ENOSPC, false}, {syscall.EIO, true}} {
		t.Run(c.err.Error(), func(t *testing.T) {
			p := planted{match: isOp(opPwrite, ""), err: c.err}
			st := open(t, &faultDisk{Disk: NewHeapDisk(), before: p.before, short: true}, small)
			_, logs := newTopic(t, st, "t")
			l := logs[StreamMain]
			require.True(t, fillOne(t, l, fillRate{1, 1 << 20}).byWrite)
			for n := 1; n <= 2; n++ { // frames, entries
				p.arm(n)
				done, _, err := l.Append(makeBodies(1, 10*n, 3, 2000), 1, 0)
				require.Zero(t, done)
				if n == 1 || !c.fatal {
					require.ErrorIs(t, err, c.err)
				}
				require.Equal(t, l.open.end(), l.Committed(), "the reservation is resolved")
			}
			require.Len(t, readAll(t, l), 2)
			if c.fatal {
				require.ErrorIs(t, st.Failed(), c.err)
				return
			}
			require.NoError(t, st.Failed())
			p.heal()
			appendAll(t, l, makeBodies(1, 50, 3, 2000))
			require.Len(t, readAll(t, l), 5)
			st.sync.round()
			require.NoError(t, st.Failed())
			st.Abandon()
			after := open(t, st.disk, small)
			got := map[string]bool{}
			for _, m := range readAll(t, topic(t, after, "t").Logs[StreamMain]) {
				got[m.body] = true
			}
			for _, b := range makeBodies(1, 50, 3, 2000) {
				require.True(t, got[string(b)])
			}
		})
	}
}
