package mmapq

import (
	"strings"
	"testing"

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
