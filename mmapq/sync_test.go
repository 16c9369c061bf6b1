package mmapq

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSyncHoldsWhatItSyncs: a segment that the reclaimer frees while a sync round is under way is not touched any more.
func TestSyncHoldsWhatItSyncs(t *testing.T) {
	onDisks(t, func(t *testing.T, disk Disk) {
		entered, goOn := make(chan struct{}), make(chan struct{})
		first := true
		d := &faultDisk{Disk: disk, before: func(op, name string) error {
			if op == opMsync && strings.HasSuffix(name, ".seg") && first {
				first = false
				close(entered)
				<-goOn
			}
			return nil
		}}
		o := small
		o.PoolBytes = 1 // freed segments are unmapped at once
		st := open(t, d, o)
		_, logs := newTopic(t, st, "t")
		l := logs[StreamMain]
		for i := range 40 {
			appendAll(t, l, makeBodies(1, i*10, 10, 1000))
		}
		require.Greater(t, len(*l.segs.Load()), 4)
		done := make(chan struct{})
		go func() {
			defer close(done)
			st.sync.round()
		}()
		<-entered
		before := len(*l.segs.Load())
		freed := l.Truncate(func(Pos, Pos) bool { return false })
		require.Equal(t, before-2, freed, "all but the open one and the one that is being synced")
		close(goOn)
		<-done
		if s := d.wrong.Load(); s != nil {
			t.Fatal(*s)
		}
		require.NoError(t, st.Failed())
		require.True(t, l.Durable(l.Committed()))
		require.Equal(t, 1, l.Truncate(func(Pos, Pos) bool { return false }))
		requirePins(t, l)
	})
}

// TestLoopsAreToldWhenDurable: a loop that asks and looks again is never left waiting, however its asking and a round's end interleave.
func TestLoopsAreToldWhenDurable(t *testing.T) {
	bells := [3]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)}
	st := open(t, NewHeapDisk(), Options{SegmentMax: 64 << 10, Sync: SyncAlways, Settled: func(loops uint64) {
		for i, b := range bells {
			if loops&(1<<i) != 0 {
				signal(b)
			}
		}
	}})
	_, logs := newTopic(t, st, "t")
	var wg sync.WaitGroup
	for loop, bell := range bells {
		wg.Go(func() {
			l := logs[loop%2]
			for n := range 300 {
				end, err := l.AppendWait([][]byte{makeBody(loop, n, 50)}, 1, 1)
				if err != nil {
					t.Error(err)
					return
				}
				for l.AwaitLoop(loop); !l.Durable(end); l.AwaitLoop(loop) {
					select {
					case <-bell:
					case <-time.After(10 * time.Second):
						t.Errorf("loop %d is not told", loop)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, readAll(t, logs[0]), 600)
	for _, m := range readAll(t, logs[0]) {
		_, _, ok := bodyOf([]byte(m.body))
		require.True(t, ok)
	}
}

// TestFailedSyncTellsEverybody: waiters of every log learn of it, not only those of the one that failed.
func TestFailedSyncTellsEverybody(t *testing.T) {
	p := &planted{match: func(op, name string) bool { return op == opMsync }, forever: true}
	told := make(chan uint64, 100)
	st := open(t, &faultDisk{Disk: NewHeapDisk(), before: p.before}, Options{
		SegmentMax: 64 << 10, Sync: SyncAlways, Settled: func(loops uint64) { told <- loops },
	})
	var all []*Log
	for _, name := range []string{"a", "b", "c"} {
		_, logs := newTopic(t, st, name)
		appendAll(t, logs[0], makeBodies(1, 0, 1, 10))
		require.NoError(t, logs[0].AwaitDurable(logs[0].Committed()))
		all = append(all, logs[0])
	}
	p.arm(2)
	var wg sync.WaitGroup
	for i, l := range all {
		wg.Go(func() {
			for {
				end, err := l.AppendWait(makeBodies(1, 0, 1, 10), 1, 0)
				if err == nil {
					l.AwaitLoop(i)
					err = l.AwaitDurable(end)
				}
				if err != nil {
					if !strings.Contains(err.Error(), errPlanted.Error()) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	require.ErrorIs(t, st.Failed(), errPlanted)
	p.heal()
	for _, l := range all {
		_, err := l.AppendWait(makeBodies(1, 0, 1, 10), 1, 0)
		require.ErrorIs(t, err, errPlanted, "a later sync that succeeds proves nothing")
	}
}

// TestSyncEvery: publishes count, also when the interval is far away.
func TestSyncEvery(t *testing.T) {
	st := open(t, NewHeapDisk(), Options{SegmentMax: 64 << 10, SyncTimeout: time.Hour, SyncEvery: 10})
	_, logs := newTopic(t, st, "t")
	l := logs[0]
	appendAll(t, l, makeBodies(1, 0, 9, 10))
	require.Zero(t, st.sync.rounds.Load())
	require.Equal(t, uint64(9), l.AtRisk())
	appendAll(t, l, makeBodies(1, 9, 1, 10))
	require.NoError(t, l.AwaitDurable(l.Committed()))
	require.Zero(t, l.AtRisk())
	messages, bytes := l.Totals()
	require.Equal(t, []uint64{10, 100}, []uint64{messages, bytes})
}

// TestDeferredStream: the due time travels in the entry and survives a start.
func TestDeferredStream(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, small)
		_, logs := newTopic(t, st, "t")
		l := logs[StreamDeferred]
		for _, due := range []int64{1785542400123, 1, 1<<48 - 1} {
			_, err := l.AppendWait([][]byte{[]byte("x")}, 1, due)
			require.NoError(t, err)
		}
		for range 2 {
			r, _ := l.Run(0, l.Committed(), 10, 1000)
			require.Equal(t, []int64{1785542400123, 1, 1<<48 - 1}, []int64{r.Due(0), r.Due(1), r.Due(2)})
			s, p, ok := SplitID(r.ID())
			require.True(t, ok)
			require.Equal(t, StreamDeferred, s)
			require.Equal(t, r.First, p)
			r.Release()
			st = reopen(t, st)
			l = topic(t, st, "t").Logs[StreamDeferred]
		}
	})
}

// TestReleaseStateNeverWaits: the broker calls it with a channel's lock held, which loops want; a sync round may take seconds.
func TestReleaseStateNeverWaits(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	d := &faultDisk{Disk: NewHeapDisk(), before: func(op, name string) error {
		if op == opMsync && strings.HasSuffix(name, ".state") {
			close(entered)
			<-goOn
		}
		return nil
	}}
	st := open(t, d, small)
	s := newState(st, stateName(1, StreamMain), stateMessages)
	s.Ensure(stateMessages, 10)
	s.Finish(stateMessages)
	s.MarkDirty()
	done := make(chan struct{})
	go func() {
		defer close(done)
		st.sync.round()
	}()
	<-entered
	require.NoError(t, st.ReleaseState(s, 3*stateMessages), "returns at once")
	require.Equal(t, uint16(Finished), s.Get(stateMessages))
	close(goOn)
	<-done
	require.Nil(t, d.wrong.Load())
	require.NoError(t, st.ReleaseState(s, 3*stateMessages))
	require.Zero(t, s.Get(stateMessages))
}

// TestManifestSyncBlocksNobody: loops append records (a channel made by SUB); a sync of the file may take seconds.
func TestManifestSyncBlocksNobody(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	blocked := false
	d := &faultDisk{Disk: NewHeapDisk()}
	st := open(t, d, small)
	d.before = func(op, _ string) error {
		if op == opSync && !blocked {
			blocked = true
			close(entered)
			<-goOn
		}
		return nil
	}
	newTopic(t, st, "a")
	done := make(chan error)
	go func() { done <- st.man.sync() }()
	<-entered
	meta, _ := newTopic(t, st, "b")
	newChannel(t, st, meta, "c", meta.Base)
	close(goOn)
	require.NoError(t, <-done)
	require.True(t, st.man.dirty, "what came during a sync waits for the next one")
	require.NoError(t, st.man.sync())
	require.False(t, st.man.dirty)
}
