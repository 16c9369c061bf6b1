package mmapq

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDroppedRangesDoNotPileUp: a topic that is emptied for ever keeps as many ranges as its segments need.
func TestDroppedRangesDoNotPileUp(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	meta, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	at := meta.Base[StreamMain]
	for range 300 { // held all the time: the ranges follow each other
		end := appendAll(t, l, makeBodies(1, 0, 2, 1000))
		require.NoError(t, l.Drop(at, end))
		at = end
	}
	require.Len(t, *l.dead.Load(), 1)
	for range 300 { // something is delivered in between
		keep := appendAll(t, l, makeBodies(1, 0, 1, 1000))
		end := appendAll(t, l, makeBodies(1, 1, 2, 1000))
		require.NoError(t, l.Drop(keep, end))
		l.Truncate(func(_, to Pos) bool { return to > end })
	}
	require.Less(t, len(*l.dead.Load()), 50)
	st.man.mu.Lock()
	require.Equal(t, *l.dead.Load(), st.man.model.topics[meta.ID].dead[StreamMain])
	st.man.mu.Unlock()
	require.NoError(t, st.man.rewrite())
	last := appendAll(t, l, makeBodies(1, 5, 1, 1000))
	require.Equal(t, int64(last), int64(l.Committed()))
	want := readAll(t, l)
	st = reopen(t, st)
	require.Equal(t, want, readAll(t, topic(t, st, "t").Logs[StreamMain]), "what was dropped stays away")
}

// TestAppendsGoOnDuringRewrite: the lock is not held while the new file is synced, and what is appended meanwhile is in it.
func TestAppendsGoOnDuringRewrite(t *testing.T) {
	disk := NewHeapDisk()
	d := &faultDisk{Disk: disk}
	var st *Store
	var during atomic.Int32
	d.before = func(op, name string) error {
		if op == opSync && name == manifestTemp && st != nil && during.Add(1) == 1 {
			_, _, err := st.CreateTopic("meanwhile", false)
			require.NoError(t, err)
		}
		return nil
	}
	s := open(t, d, small)
	newTopic(t, s, "before")
	st = s
	require.NoError(t, s.man.rewrite())
	require.EqualValues(t, 1, during.Load())
	newTopic(t, s, "after")
	require.NoError(t, s.man.sync())
	s.Abandon()
	s = open(t, disk, small)
	for _, name := range []string{"before", "meanwhile", "after"} {
		topic(t, s, name)
	}
	require.Zero(t, s.Recovered().TornBytes+s.Recovered().LostBytes)
}

// TestDeletedChannelIsGoneBeforeItsState: the record is on the disk before anything of the channel is given up.
func TestDeletedChannelIsGoneBeforeItsState(t *testing.T) {
	var synced atomic.Bool
	d := &faultDisk{Disk: NewHeapDisk(), before: func(op, name string) error {
		switch {
		case op == opSync && strings.HasPrefix(name, ManifestName):
			synced.Store(true)
		case op == opRemove && name != manifestTemp:
			require.True(t, synced.Load(), "%s is removed", name)
		}
		return nil
	}}
	st := open(t, d, small)
	meta, logs := newTopic(t, st, "t")
	c, slot, states := newChannel(t, st, meta, "c", meta.Base)
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 3, 10))
	states[StreamMain].Ensure(meta.Base[StreamMain], 3)
	require.NoError(t, st.DeleteChannel(c, meta))
	synced.Store(false)
	require.NoError(t, st.DropChannel(slot, states, false))
	require.True(t, synced.Load())
}
