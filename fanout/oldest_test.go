package fanout

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// The age is that of the oldest message that is due and not finished, wherever it is: waiting, in flight, put back, or behind finished ones.
func TestOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		defer func() { require.NoError(t, r.Close()) }()
		c := r.sub(t, "t", "c", 10, ConsumerOptions{MsgTimeout: time.Hour})
		seconds := func() int { return int(c.Channel().Oldest(Now()).Round(time.Second) / time.Second) }
		require.Zero(t, seconds(), "nothing was published")
		r.pub(t, "t", "a")
		time.Sleep(10 * time.Second)
		r.pub(t, "t", "b")
		time.Sleep(10 * time.Second)
		r.pub(t, "t", "c")
		require.Equal(t, 20, seconds(), "a waits")
		d := c.takeAll(t)
		require.Len(t, d, 3)
		require.Equal(t, 20, seconds(), "a is in flight")
		require.NoError(t, c.Fin([]byte(d[1].id), Now()))
		c.EndBatch()
		c.EndBatch()
		require.Equal(t, 20, seconds(), "b is finished behind a")
		require.NoError(t, c.Req([]byte(d[0].id), 0, Now()))
		time.Sleep(5 * time.Second)
		require.Equal(t, 25, seconds(), "a was put back")
		d = append(d, c.takeAll(t)...)
		require.NoError(t, c.Fin([]byte(d[3].id), Now()))
		c.EndBatch()
		c.EndBatch()
		require.Equal(t, 5, seconds(), "c is left")
		require.NoError(t, c.Fin([]byte(d[2].id), Now()))
		c.EndBatch()
		c.EndBatch()
		require.Zero(t, seconds())
	})
}

// A message published with a delay counts from when it is due, delivered or not.
func TestOldestDeferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		defer func() { require.NoError(t, r.Close()) }()
		c := r.sub(t, "t", "c", 10, ConsumerOptions{MsgTimeout: time.Hour})
		topic := c.Channel().Topic()
		seconds := func() int { return int(c.Channel().Oldest(Now()).Round(time.Second) / time.Second) }
		for _, delay := range []time.Duration{time.Hour, 30 * time.Second} {
			_, err := topic.PublishDeferredWait([]byte("x"), delay)
			require.NoError(t, err)
		}
		time.Sleep(20 * time.Second)
		require.Zero(t, seconds())
		time.Sleep(20 * time.Second)
		require.Equal(t, 10, seconds(), "waits")
		d := c.takeAll(t)
		require.Len(t, d, 1)
		time.Sleep(5 * time.Second)
		require.Equal(t, 15, seconds(), "in flight")
		require.NoError(t, c.Fin([]byte(d[0].id), Now()))
		c.EndBatch()
		require.Zero(t, seconds())
	})
}
