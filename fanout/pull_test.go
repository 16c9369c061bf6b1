package fanout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// TestPullSoon: a loop that publishes a deferred message in the moment in which a topic is opened leaves what was held to another goroutine; the
// channel gets all of it, once.
func TestPullSoon(t *testing.T) {
	r := openRig(t, mmapq.NewRealDisk(t.TempDir()), mmapq.Options{}, Options{})
	defer r.Close()
	r.sub(t, "t", "c", 0, ConsumerOptions{}).Close(Now())
	tp := r.LookupTopic("t")
	ch := tp.LookupChannel("c")
	require.NoError(t, tp.SetPaused(true))
	const held = 2*lockSteps + 1
	for range held {
		_, err := tp.PublishDeferredWait([]byte("x"), time.Hour)
		require.NoError(t, err)
	}
	tp.mu.Lock()
	tp.meta.Held = false
	tp.showHeld()
	tp.mu.Unlock()
	require.Zero(t, ch.Stats().Deferred, "nobody has taken it over yet")
	require.True(t, ch.pullsLater(Now()))
	for range 3 {
		_, err := tp.PublishDeferred([]byte("x"), time.Hour)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return ch.Stats().Deferred == held+3 }, 10*time.Second, time.Millisecond)
	require.False(t, ch.pullsLater(Now()))
}
