package fanout

import (
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// Durations and what belongs to it, for those who measure and show times above the log.
type (
	Durations      = mmapq.Durations
	DurationCounts = mmapq.DurationCounts
)

// DurationBuckets is how many bounds a DurationCounts has.
const DurationBuckets = mmapq.DurationBuckets

// DurationBound returns the upper bound of bucket i in ns.
func DurationBound(i int) int64 { return mmapq.DurationBound(i) }

// Usage is what the broker's log uses and how it does, for watching.
type Usage struct {
	mmapq.Usage
	DeliveryToFinish  DurationCounts
	PublishToDelivery DurationCounts // of first deliveries; a run counts with the age of its first message
}

// Usage walks all topics; any goroutine.
func (b *Broker) Usage() Usage {
	u := Usage{PublishToDelivery: b.toDelivery.Load(), DeliveryToFinish: b.toFinish.Load()}
	u.Usage = b.st.Usage()
	for _, t := range b.Topics() {
		for _, l := range t.logs {
			u.AddLog(l)
		}
	}
	return u
}

// Oldest returns how long ago the oldest message that is not finished was published, or, if it was published with a delay, became due; 0 without
// any. It may read the disk: not for loops.
func (ch *Channel) Oldest(now int64) time.Duration {
	l := ch.t.logs[streamMain]
	limit := ch.t.visible(streamMain)
	late := ch.oldestDeferred(now)
	if p, ok := ch.firstUnfinished(streamMain); ok {
		return max(late, age(now, l.Timestamp(p)))
	}
	ch.mu.Lock()
	cursor := ch.cursor[streamMain]
	ch.mu.Unlock()
	if at, _ := l.Next(cursor, limit); at < limit {
		return max(late, age(now, l.Timestamp(at)))
	}
	return late
}

// firstUnfinished returns the first message below the cursor that is not finished.
func (ch *Channel) firstUnfinished(s mmapq.Stream) (first mmapq.Pos, ok bool) {
	ch.mu.Lock() // state is unmapped under it
	defer ch.mu.Unlock()
	if ch.gone.Load() {
		return 0, false
	}
	v := view{ch: ch, floor: ch.floor[s], cursor: ch.cursor[s]}
	v.each(ch.t.logs[s], s, v.floor, v.cursor, func(p mmapq.Pos) bool {
		first, ok = p, true
		return false
	})
	return first, ok
}

// oldestLook bounds how many waiting messages are looked at for one that is late: most of them are not.
const oldestLook = 4096

// oldestDeferred returns how long the message has been due that has been due for longest, of the first oldestLook that are not finished.
func (ch *Channel) oldestDeferred(now int64) (late time.Duration) {
	l := ch.t.logs[streamDeferred]
	ch.mu.Lock() // state is unmapped under it
	defer ch.mu.Unlock()
	if ch.gone.Load() {
		return 0
	}
	v := view{ch: ch, floor: ch.floor[streamDeferred], cursor: ch.cursor[streamDeferred]}
	n := 0
	v.each(l, streamDeferred, v.floor, v.cursor, func(p mmapq.Pos) bool {
		if release := l.Hold(p); release != nil {
			l.EachDue(p, p+1, 1, func(_ mmapq.Pos, due int64) {
				late = max(late, time.Duration(now-ch.t.b.fromMillis(due)))
			})
			release()
		}
		n++
		return n < oldestLook
	})
	return late
}

// age is how long ago a time stamp was; 0 stands for none.
func age(now, stamp int64) time.Duration {
	if stamp == 0 {
		return 0
	}
	return time.Duration(max(0, now-stamp))
}

// finTimes gathers equal times from delivery to FIN, so that the messages of one run and batch are counted at once.
type finTimes struct {
	ns int64
	n  uint64
}

func (c *Consumer) countFin(ns int64) {
	if c.taken.ns != ns {
		c.flushFins()
		c.taken.ns = ns
	}
	c.taken.n++
}

func (c *Consumer) flushFins() {
	if c.taken.n > 0 {
		c.ch.t.b.toFinish.Add(c.taken.ns, c.taken.n)
		c.taken.n = 0
	}
}
