package mmapq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTrimPool: what nobody needed for a while goes back to the disk, half of it at a time; what is needed stays.
func TestTrimPool(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		st := open(t, d, Options{SegmentMax: 64 << 10, SyncTimeout: time.Hour})
		_, logs := newTopic(t, st, "t")
		l := logs[StreamMain]
		appendAll(t, l, makeBodies(1, 0, 1100, 1000))
		idle := func() {
			st.trimmed = time.Now().Add(-2 * trimEvery)
			st.TrimPool()
		}
		idle()
		freed := l.Truncate(func(Pos, Pos) bool { return false })
		require.Greater(t, freed, 15)
		files := len(segmentFiles(t, d))
		st.TrimPool()
		idle()
		require.Len(t, segmentFiles(t, d), files, "they were free for less than one turn")
		idle()
		require.Len(t, segmentFiles(t, d), files-freed/2)
		for range 10 {
			idle()
		}
		require.LessOrEqual(t, len(segmentFiles(t, d)), 3)
		appendAll(t, l, makeBodies(1, 0, 300, 1000))
		require.NoError(t, st.Failed())
		require.Len(t, readAll(t, topic(t, reopen(t, st), "t").Logs[StreamMain]), len(readAll(t, l)))
	})
}

// TestClockOutOfRange: a topic's first position has room above it and is never 0, whatever the clock says.
func TestClockOutOfRange(t *testing.T) {
	for _, us := range []int64{-1 << 62, -1, 0, 1, 1 << 50, 1 << 53, 1<<63 - 1} {
		p := firstPosition(us)
		require.Positive(t, p)
		require.LessOrEqual(t, p, Pos(posMask/2))
	}
	require.Equal(t, Pos(1<<50), firstPosition(1<<50))
}
