package fanout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

func TestLatencyWindow(t *testing.T) {
	const half = int64(time.Minute)
	m := newLatencyMeter([]float64{1, 0.5}, 2*half, 0)
	read := func(now int64) Latency { return latencyOf(m.quantiles, []*latencyMeter{m}, now) }
	require.Equal(t, Latency{Percentiles: []Percentile{{1, 0}, {0.5, 0}}}, read(0), "configured, nothing measured")
	for ns := range int64(100) {
		m.add(half, ns) // the end of a half window belongs to it
	}
	m.add(half+1, 1000)
	l := read(half + 1)
	require.Equal(t, 101, l.Count)
	require.InDelta(t, 1000, l.Percentiles[0].Value, 0)
	require.InDelta(t, 50, l.Percentiles[1].Value, 2)
	require.Equal(t, 101, read(2*half).Count)
	require.Equal(t, 1, read(2*half+1).Count, "the first half window is too old")
	require.Equal(t, 0, read(3*half+1).Count)
	m.add(3*half+2, 7)
	require.Equal(t, 0, read(100*half).Count, "nothing for long")
	require.Nil(t, newLatencyMeter(nil, 2*half, 0))
}

// The time counts from the publish, also of a message that was requeued; what is only put back is not counted.
func TestLatencyOfChannels(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{LatencyQuantiles: []float64{1}, LatencyWindow: time.Hour})
	defer func() { require.NoError(t, r.Close()) }()
	quick := r.sub(t, "t", "quick", 10, ConsumerOptions{})
	slow := r.sub(t, "t", "slow", 10, ConsumerOptions{})
	topic := quick.Channel().Topic()
	require.Equal(t, Latency{Percentiles: []Percentile{{1, 0}}}, topic.Stats().Latency)
	r.pub(t, "t", "a", "b")
	for i, c := range []*Consumer{quick, slow} {
		d := c.takeAll(t)
		id, ok := codec.ParseID([]byte(d[0].id))
		require.True(t, ok)
		published := c.stamps[id]
		require.NotZero(t, published)
		require.NoError(t, c.Req([]byte(d[0].id), 0, Now()))
		again := c.takeAll(t)
		require.NoError(t, c.Fin([]byte(again[0].id), published+int64(i+1)*1000))
		require.Len(t, c.stamps, 1, "b is in flight")
		c.EndBatch()
		l := c.Channel().Stats().Latency
		require.Equal(t, 1, l.Count)
		require.InDelta(t, float64(i+1)*1000, l.Percentiles[0].Value, 0)
	}
	l := topic.Stats().Latency
	require.Equal(t, 2, l.Count)
	require.InDelta(t, 2000, l.Percentiles[0].Value, 0)
	require.NoError(t, quick.Channel().Empty())
	quick.Refresh()
	require.Empty(t, quick.stamps)
	slow.Close(Now())
	require.Empty(t, slow.stamps)
	require.EqualValues(t, 2, sumOf(r.Usage().DeliveryToFinish))
	require.EqualValues(t, 4, sumOf(r.Usage().PublishToDelivery))
}

func sumOf(c DurationCounts) (n uint64) {
	for _, k := range c.Counts {
		n += k
	}
	return n
}

func TestWithoutPercentilesNothingIsKept(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer func() { require.NoError(t, r.Close()) }()
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	r.pub(t, "t", "a")
	d := c.takeAll(t)
	require.Nil(t, c.stamps)
	require.NoError(t, c.Fin([]byte(d[0].id), Now()))
	require.Equal(t, Latency{}, c.Channel().Topic().Stats().Latency)
}
