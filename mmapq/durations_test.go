package mmapq

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDurations(t *testing.T) {
	var d Durations
	for i := range DurationBuckets {
		require.Equal(t, i, durationBucket(DurationBound(i)), "a bound belongs to its bucket")
		require.Equal(t, i+1, durationBucket(DurationBound(i)+1))
	}
	for _, ns := range []int64{math.MinInt64, -1, 0, 1} {
		require.Zero(t, durationBucket(max(ns, 0)))
	}
	require.Equal(t, DurationBuckets, durationBucket(math.MaxInt64))
	d.Add(-5, 1)
	d.Add(1024, 2)
	d.Add(1025, 3)
	c := d.Load()
	require.EqualValues(t, 3, c.Counts[0])
	require.EqualValues(t, 3, c.Counts[1])
	require.EqualValues(t, 2*1024+3*1025, c.Sum)
	c.Merge(d.Load())
	require.EqualValues(t, 6, c.Counts[1])
}
