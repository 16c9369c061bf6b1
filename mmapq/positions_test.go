package mmapq

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Positions of a topic's name are never used twice: not after a deletion, not after any number of starts, not when everything that remembers
// them is freed or lost.

func newChannel(t testing.TB, st *Store, meta TopicMeta, name string, start [2]Pos) (ChannelMeta, *ChannelSlot, [2]*State) {
	t.Helper()
	c, slot, states, err := st.CreateChannel(meta, name, start, false)
	require.NoError(t, err)
	return c, slot, states
}

func freeAll(t testing.TB, l *Log) {
	t.Helper()
	l.Truncate(func(Pos, Pos) bool { return false })
}

func TestPositionsAfterDeletion(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	top := Pos(0)
	for life := range 6 {
		memory := life == 4 // an ephemeral one in between
		meta, logs, err := st.CreateTopic("t", memory)
		require.NoError(t, err)
		l := logs[StreamMain]
		require.Greater(t, meta.Base[StreamMain], top)
		l.mu.Lock()
		l.nextBase += 1 << 40 // as if it had been very busy: the clock does not help
		l.mu.Unlock()
		appendAll(t, l, makeBodies(life, 0, 10, 10))
		require.Greater(t, readAll(t, l)[0].pos, top)
		top = l.Committed()
		for _, l := range logs {
			l.Close()
		}
		if !memory {
			require.NoError(t, st.DeleteTopic(meta, logs))
		}
		require.True(t, logs[0].Remove() && logs[1].Remove())
		if life == 2 {
			st = reopen(t, st)
			require.Empty(t, st.Topics())
			require.Empty(t, segmentFiles(t, st.disk))
		}
	}
}

// TestPositionsAfterEverythingIsFreed: with all segments gone the manifest still knows, also without the channel table.
func TestPositionsAfterEverythingIsFreed(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	meta, logs := newTopic(t, st, "t")
	newChannel(t, st, meta, "c", meta.Base)
	top := Pos(0)
	for life := range 5 {
		l := logs[StreamMain]
		ordinal := l.Ordinal(l.Committed())
		l.mu.Lock()
		l.nextBase += 10 << 20 // more than a start jumps by itself
		l.mu.Unlock()
		appendAll(t, l, makeBodies(life, 0, 100, 1000))
		list := readLog(t, l, top, l.Committed(), 256, 1<<20)
		require.Len(t, list, 100)
		require.Greater(t, list[0].pos, top, "life %d", life)
		require.Equal(t, ordinal+100, l.Ordinal(l.Committed()))
		top = l.Committed()
		st.Abandon()
		st = open(t, d, small) // the open segment is sealed now
		freeAll(t, topic(t, st, "t").Logs[StreamMain])
		require.Empty(t, segmentsOf(st, "t"))
		require.NoError(t, st.man.rewrite())
		st.Abandon()
		delete(d.files, tableName)
		st = open(t, d, small)
		rt := topic(t, st, "t")
		logs = rt.Logs
		require.GreaterOrEqual(t, logs[StreamMain].Committed(), top)
		_, _, _, cursor, err := st.RecoverChannel(*rt.Meta.Channels[0], logs)
		require.NoError(t, err)
		require.Equal(t, meta.Base[StreamMain], cursor[StreamMain], "the table is lost")
		st.FinishRecovery()
	}
}

func segmentsOf(st *Store, name string) []segmentMeta {
	var list []segmentMeta
	for _, s := range st.man.model.segments {
		if t := st.man.model.topics[s.topic]; t != nil && t.Name == name {
			list = append(list, s)
		}
	}
	return list
}

// TestPositionsBehindEveryState: when the log's tail is lost together with all that remembers it, what a channel stored for it must not be
// taken for the state of new messages.
func TestPositionsBehindEveryState(t *testing.T) {
	d := NewHeapDisk()
	st := open(t, d, small)
	meta, logs := newTopic(t, st, "t")
	c, slot, states := newChannel(t, st, meta, "c", meta.Base)
	l := logs[StreamMain]
	far := meta.Base[StreamMain] + 5<<20
	states[StreamMain].Ensure(far, 1)
	require.True(t, states[StreamMain].Finish(far))
	slot.SetCursor(StreamMain, meta.Base[StreamMain])
	appendAll(t, l, makeBodies(1, 0, 3, 10))
	st = reopen(t, st)
	rt := topic(t, st, "t")
	_, _, states, _, cursor, err := recoverAll(st, c, rt)
	require.NoError(t, err)
	require.Equal(t, meta.Base[StreamMain], cursor[StreamMain])
	l = rt.Logs[StreamMain]
	appendAll(t, l, makeBodies(1, 3, 3, 10))
	list := readAll(t, l)
	require.Len(t, list, 6)
	for _, m := range list {
		states[StreamMain].Ensure(m.pos, 1)
		require.Zero(t, states[StreamMain].Get(m.pos))
	}
	require.Greater(t, list[3].pos, far)
}

func recoverAll(st *Store, c ChannelMeta, rt RecoveredTopic) (ChannelMeta, *ChannelSlot, [2]*State, [2]Pos, [2]Pos, error) {
	i := slices.IndexFunc(rt.Meta.Channels, func(x *ChannelMeta) bool { return x.ID == c.ID })
	slot, states, floor, cursor, err := st.RecoverChannel(*rt.Meta.Channels[i], rt.Logs)
	st.FinishRecovery()
	return *rt.Meta.Channels[i], slot, states, floor, cursor, err
}

// TestPositionsAfterACursorAhead: the log lost its tail, the channel table did not.
func TestPositionsAfterACursorAhead(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	meta, logs := newTopic(t, st, "t")
	c, slot, _ := newChannel(t, st, meta, "c", meta.Base)
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 3, 10))
	ahead := logs[StreamMain].Committed() + 7<<20
	slot.SetCursor(StreamMain, ahead)
	st = reopen(t, st)
	rt := topic(t, st, "t")
	_, _, _, floor, cursor, err := recoverAll(st, c, rt)
	require.NoError(t, err)
	require.Equal(t, ahead, cursor[StreamMain])
	require.Equal(t, meta.Base[StreamMain], floor[StreamMain])
	l := rt.Logs[StreamMain]
	require.Equal(t, ahead, l.Committed())
	require.Equal(t, uint64(3), l.Ordinal(ahead))
	require.Zero(t, l.Ordinal(meta.Base[StreamMain]))
	appendAll(t, l, makeBodies(1, 3, 3, 10))
	list := readAll(t, l)
	require.Len(t, list, 6)
	require.GreaterOrEqual(t, list[3].pos, ahead)
	require.Equal(t, uint64(3), l.Ordinal(ahead))
	require.Equal(t, uint64(6), l.Ordinal(l.Committed()))
	at, end := l.Next(list[2].pos+1, l.Committed())
	require.Equal(t, []Pos{list[3].pos, l.Committed()}, []Pos{at, end}, "the gap is jumped")
	r, next := l.Run(list[2].pos+1, ahead, 10, 1000)
	require.Zero(t, r.N)
	require.Equal(t, ahead, next)
}

// TestOrdinalsNeverGoBack: counts stay sane while segments are freed at both ends and in the middle, and after starts.
func TestOrdinalsNeverGoBack(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, makeBodies(1, 0, 400, 1000))
	segs := *l.segs.Load()
	require.Greater(t, len(segs), 5)
	require.Equal(t, uint64(400), l.AtRisk())
	require.NoError(t, l.Drop(segs[1].base+3, segs[2].base+5))
	dropped := uint64(segs[2].base + 5 - segs[1].base - 3)
	require.Equal(t, dropped, l.DeadBetween(0, l.Committed()))
	l.mu.Lock()
	segs[1].addDamage(segs[1].base, segs[1].base+5) // two of them were dropped as well
	l.mu.Unlock()
	require.Equal(t, dropped+3, l.DeadBetween(0, l.Committed()))
	require.Len(t, readAll(t, l), 400-int(dropped)-3)
	middle := segs[3]
	require.Equal(t, 1, l.Truncate(func(from, _ Pos) bool { return from != middle.base }))
	require.Equal(t, uint64(400), l.Ordinal(l.Committed()))
	require.Equal(t, middle.baseOrd+uint64(middle.count), l.Ordinal(middle.base+1), "a freed position counts as its end")
	for p := Pos(0); p < l.Committed(); p = max(p+1, segs[0].base-2) {
		require.LessOrEqual(t, l.Ordinal(p), l.Ordinal(p+1))
	}
	st = reopen(t, st)
	l = topic(t, st, "t").Logs[StreamMain]
	require.Equal(t, 400-uint64(middle.count), l.Ordinal(l.Committed()), "dense again")
	require.Equal(t, dropped, l.DeadBetween(0, l.Committed()))
	freeAll(t, l)
	require.Zero(t, l.DeadBetween(0, l.Committed()))
	require.Nil(t, l.dead.Load(), "dropped ranges are forgotten with their segments")
	require.Zero(t, l.AtRisk())
	require.Equal(t, l.Ordinal(0), l.Ordinal(l.Committed()))
}
