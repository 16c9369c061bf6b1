package fanout

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// A requeue with a delay keeps its due time across a crash, as often as it happens, and is forgotten once the message moved on.
func TestRequeueDelaySurvivesCrash(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	r.pub(t, "t", "short", "long", "done")
	ds := c.takeAll(t)
	require.NoError(t, c.Req([]byte(ds[0].id), 300*time.Millisecond, Now()))
	require.NoError(t, c.Req([]byte(ds[1].id), time.Hour, Now()))
	began := Now()
	require.NoError(t, c.Fin([]byte(ds[2].id), Now()))
	c.EndBatch()
	for range 3 {
		r = r.crash(t, mmapq.Options{}, Options{})
		c = r.sub(t, "t", "c", 10, ConsumerOptions{})
	}
	require.EqualValues(t, 2, c.Channel().Stats().Deferred)
	if !c.Channel().Park(0) {
		<-r.sink.wake
	}
	d := c.takeAll(t)
	require.Equal(t, []string{"short"}, bodies(d))
	require.EqualValues(t, 2, d[0].attempts)
	require.GreaterOrEqual(t, Now()-began, int64(250*time.Millisecond))
	// Delivered again and requeued at once: the old record must not hold it back after the next crash.
	require.NoError(t, c.Req([]byte(d[0].id), 0, Now()))
	c.EndBatch()
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	c = r.sub(t, "t", "c", 10, ConsumerOptions{})
	require.Equal(t, []string{"short"}, bodies(c.takeAll(t)))
	require.EqualValues(t, 1, c.Channel().Stats().Deferred)
}

// A hundred messages wait for an hour while others are requeued for a second, over days: files of delays that are past go, those that wait stay.
func TestWaitingDelaysAreKept(t *testing.T) {
	inBubble(t, func() {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		c := r.sub(t, "t", "c", 2500, ConsumerOptions{})
		r.pub(t, "t", numbers(0, 101)...)
		ds := c.takeAll(t)
		for _, d := range ds[:100] {
			require.NoError(t, c.Req([]byte(d.id), time.Hour, Now()))
		}
		for range 700 {
			require.NoError(t, c.Req([]byte(ds[100].id), time.Second, Now()))
			c.EndBatch()
			time.Sleep(5 * time.Second)
			require.Len(t, c.takeAll(t), 1)
		}
		names, err := r.disk.List()
		require.NoError(t, err)
		files := 0
		for _, n := range names {
			if strings.HasSuffix(n, ".delays") {
				files++
			}
		}
		require.LessOrEqual(t, files, 6, "history is removed")
		require.EqualValues(t, 100, c.Channel().Stats().Deferred)
		r = r.crash(t, mmapq.Options{}, Options{})
		defer r.Close()
		require.EqualValues(t, 100, r.sub(t, "t", "c", 1, ConsumerOptions{}).Channel().Stats().Deferred)
	})
}

// A record that names fewer deliveries than the state is history, also when the wall clock went back and its time has not come.
func TestDelayOfAnEarlierDeliveryIsForgotten(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	r.pub(t, "t", "a")
	d := c.take(t)
	require.NoError(t, c.Req([]byte(d[0].id), 0, Now()))
	require.Len(t, c.take(t), 1)
	ch := c.Channel()
	require.NoError(t, r.st.SaveDelays([]mmapq.Delay{{
		Channel: ch.meta.ID, Stream: streamMain, Pos: ch.cursor[streamMain] - 1, Due: Now() + int64(time.Hour), Attempts: 1,
	}}, Now()))
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	d = r.sub(t, "t", "c", 10, ConsumerOptions{}).takeAll(t)
	require.Equal(t, []string{"a"}, bodies(d))
	require.EqualValues(t, 3, d[0].attempts)
}
