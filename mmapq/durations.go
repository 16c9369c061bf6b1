package mmapq

import (
	"math/bits"
	"sync/atomic"
)

// DurationBuckets is how many bounds Durations has: 1.024 us doubling up to 68.7 s. What is longer counts in the last bucket, which has no bound.
const DurationBuckets = 27

const durationShift = 10 // the first bound is 2^10 ns

// DurationBound returns the upper bound of bucket i in ns.
func DurationBound(i int) int64 { return 1 << (durationShift + i) }

// Durations counts durations in buckets that double, for watching. Any goroutine may add and read; the zero value is ready.
type Durations struct {
	counts [DurationBuckets + 1]atomic.Uint64
	sum    atomic.Int64
}

// DurationCounts is a copy of Durations: Counts[i] are those above DurationBound(i-1) and at most DurationBound(i); Sum is in ns.
type DurationCounts struct {
	Counts [DurationBuckets + 1]uint64
	Sum    int64
}

// Add counts n durations of ns each. A negative one counts as 0.
func (d *Durations) Add(ns int64, n uint64) {
	ns = max(ns, 0)
	d.counts[durationBucket(ns)].Add(n)
	d.sum.Add(ns * int64(n))
}

func durationBucket(ns int64) int {
	return min(max(bits.Len64(uint64(max(ns, 1)-1))-durationShift, 0), DurationBuckets)
}

// Load copies the counts, each of a slightly different moment.
func (d *Durations) Load() (c DurationCounts) {
	for i := range d.counts {
		c.Counts[i] = d.counts[i].Load()
	}
	c.Sum = d.sum.Load()
	return c
}

// Merge adds the counts of other.
func (c *DurationCounts) Merge(other DurationCounts) {
	for i, n := range other.Counts {
		c.Counts[i] += n
	}
	c.Sum += other.Sum
}
