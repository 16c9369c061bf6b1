package fanout

import (
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

// ConsumerOptions are what IDENTIFY settled before SUB.
type ConsumerOptions struct {
	MsgTimeout   time.Duration // of deliveries; 0 = the broker's default
	TouchTimeout time.Duration // what TOUCH adds; 0 = MsgTimeout (a repeated IDENTIFY changes this one only)
	SampleRate   int32
}

// Consumer is one subscribed connection: its credit and its lease. Every method runs on the goroutine of the connection's loop, except
// Counters. now is always a recent value of Now.
type Consumer struct {
	ch         *Channel
	loop       int
	timeout    int64 // ns
	touch      int64 // ns
	maxTimeout int64 // ns, bound of TOUCH counted from delivery
	sample     int32

	rdy     int64
	closing bool
	closed  bool
	lease   lease
	fins    finRange

	// Counted plainly on the loop, published once a batch.
	messages, finished, requeued int64
	dirtied                      bool // finished or put back since the last EndBatch
	returned                     bool // put back since then: somebody may be waiting for it

	delays   []mmapq.Delay    // of REQs, not yet recorded
	delaysAt int64            // when the first came, on the clock of the disk
	stamps   map[uint64]int64 // publish times of what is in flight; nil unless the channel measures latency
	taken    finTimes

	epoch  atomic.Uint64 // of the channel, as far as this lease knows
	shared [5]atomic.Int64
}

// ConsumerCounters may be read from any goroutine.
type ConsumerCounters struct {
	Ready, InFlight, Messages, Finished, Requeued int64
}

// Counters returns what EndBatch last published.
func (c *Consumer) Counters() ConsumerCounters {
	return ConsumerCounters{
		Ready: c.shared[0].Load(), InFlight: c.shared[1].Load(), Messages: c.shared[2].Load(),
		Finished: c.shared[3].Load(), Requeued: c.shared[4].Load(),
	}
}

// publish stores what changed: a store that others can see costs more than all the comparisons.
func (c *Consumer) publish() {
	for i, v := range [...]int64{c.rdy, int64(c.lease.held), c.messages, c.finished, c.requeued} {
		if c.shared[i].Load() != v {
			c.shared[i].Store(v)
		}
	}
}

// Channel returns what the connection consumes.
func (c *Consumer) Channel() *Channel { return c.ch }

// Refresh takes notice of an Empty: what the lease held is gone. Called by the loop on ChannelChanged; every other method does it too.
func (c *Consumer) Refresh() {
	if e := c.ch.epoch.Load(); e != c.epoch.Load() {
		c.lease.clear()
		c.fins.from = c.fins.to // below the new floor; their state may be unmapped once the epoch is ours
		clear(c.stamps)
		c.publish()
		c.epoch.Store(e) // last: the reclaimer waits for it before it unmaps state
	}
}

// SetReady sets RDY, which is a level: messages flow while fewer are in flight.
func (c *Consumer) SetReady(rdy int64) {
	c.rdy = rdy
	c.shared[0].Store(rdy)
}

// Credit is RDY less what is in flight, never below 0; 0 after StartClose and while the channel is paused.
func (c *Consumer) Credit() int {
	c.Refresh()
	if c.closing || c.closed || c.ch.paused.Load() {
		return 0
	}
	return int(max(0, c.rdy-int64(c.lease.held)))
}

// InFlight is how many messages the connection holds.
func (c *Consumer) InFlight() int {
	c.Refresh()
	return c.lease.held
}

// StartClose is CLS: no further message, RDY 0 for good.
func (c *Consumer) StartClose() {
	c.closing = true
	c.SetReady(0)
}

// takeID removes the message with the given 16 bytes from the lease.
func (c *Consumer) takeID(raw []byte) (id uint64, delivered int64, err error) {
	c.Refresh()
	id, ok := codec.ParseID(raw)
	if !ok {
		return 0, 0, ErrNotInFlight
	}
	if delivered, ok = c.lease.take(id); !ok {
		c.StoreFins() // whose looks at them
		return 0, 0, c.ch.whose(id)
	}
	return id, delivered, nil
}

// whose tells, for the error text only, whether somebody else holds id: it is unfinished, was claimed, and is not waiting in the channel.
func (ch *Channel) whose(id uint64) error {
	s, p, ours := mmapq.SplitID(id)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ours || p < ch.floor[s] || p >= ch.cursor[s] || ch.states[s].Get(p) == mmapq.Finished || ch.side.holds(s, p) || ch.deferred.holds(s, p) {
		return ErrNotInFlight
	}
	if at, _ := ch.t.logs[s].Next(p, p+1); at != p {
		return ErrNotInFlight
	}
	return ErrNotOwner
}

// Fin finishes a message. raw is 16 bytes of any content.
func (c *Consumer) Fin(raw []byte, now int64) error {
	id, delivered, err := c.takeID(raw)
	if err != nil {
		return err
	}
	if !mutantEvery("forget-finish", 300) {
		c.addFin(id)
	}
	c.finished++
	c.dirtied = true
	c.countFin(now - delivered)
	if c.ch.latency != nil {
		c.measured(id, now)
	}
	return nil
}

// Req puts a message back: at once behind what is visible now, or after delay.
func (c *Consumer) Req(raw []byte, delay time.Duration, now int64) error {
	id, _, err := c.takeID(raw)
	if err != nil {
		return err
	}
	c.requeued++
	if delay > 0 {
		c.noteDelay(id, now+int64(delay), now)
	}
	c.ch.mu.Lock()
	if c.epoch.Load() == c.ch.epoch.Load() { // else Empty came in between and dropped it
		c.putBack(id, delay, now, 0)
	}
	c.ch.mu.Unlock()
	return nil
}

// putBack is Channel.putBack for what this consumer held. Caller holds ch.mu and has seen there that the lease is of the channel's epoch.
func (c *Consumer) putBack(id uint64, delay time.Duration, now int64, flags sideKey) {
	c.dirtied, c.returned = true, true
	delete(c.stamps, id)
	c.ch.putBack(id, delay, now, flags)
}

// putBack makes id claimable again, after delay if that is above 0. Caller holds mu and wakes the channel afterwards.
func (ch *Channel) putBack(id uint64, delay time.Duration, now int64, flags sideKey) {
	if ch.gone.Load() {
		return
	}
	s, p, _ := mmapq.SplitID(id)
	k := makeKey(s, p) | flags
	if delay > 0 {
		ch.deferred.push(dueEntry{now + int64(delay), k})
		ch.schedule()
		return
	}
	ch.side.push(k, ch.t.visible(streamMain))
}

// Touch restarts the message's timeout, at most to the maximum counted from its delivery.
func (c *Consumer) Touch(raw []byte, now int64) error {
	id, delivered, err := c.takeID(raw)
	if err != nil {
		return err
	}
	c.lease.addExc(id, delivered, min(now+c.touch, delivered+c.maxTimeout))
	return nil
}

// NextDeadline is the earliest message timeout, 0 when nothing is in flight.
func (c *Consumer) NextDeadline() int64 {
	c.Refresh()
	return c.lease.nextDeadline()
}

// Expire puts back every message whose timeout has passed and returns their number.
func (c *Consumer) Expire(now int64) int {
	c.StoreFins()
	n := 0
	c.ch.mu.Lock()
	c.Refresh()
	c.lease.expired(now, func(id uint64) {
		c.putBack(id, 0, now, 0)
		n++
	})
	c.ch.timeouts += uint64(n)
	c.ch.mu.Unlock()
	if n > 0 {
		c.EndBatch()
	}
	return n
}

// EndBatch is called after the commands of one read and after claims: it publishes the counters and wakes whoever can use what was put back.
func (c *Consumer) EndBatch() {
	c.SaveDelays()
	c.publish()
	if !c.dirtied {
		return
	}
	c.dirtied = false
	c.StoreFins()
	c.flushFins()
	for _, s := range c.ch.states {
		s.MarkDirty()
	}
	if c.returned {
		c.returned = false
		c.ch.wake()
	}
	c.ch.t.b.recl.kick(c.ch.t)
}

// backoff is how long the messages of a lost connection wait before they are delivered again: not at all the first time, then growing, so that
// a message which crashes its consumer does not burn its attempts in a second.
func (c *Consumer) backoff(attempts uint16) time.Duration {
	if attempts < 2 {
		return 0
	}
	d := 100 * time.Millisecond << min(attempts-2, 20)
	return min(d, time.Duration(c.timeout))
}

// Unwritten gives back, without an attempt, the messages of run whose first byte is not among the first sent bytes of Head and Bytes: the
// connection is gone and never saw them. Called before Close.
func (c *Consumer) Unwritten(run *Run, sent int) {
	c.StoreFins()
	c.ch.mu.Lock()
	c.Refresh()
	for i := run.begun(sent); i < run.N; i++ {
		id := run.id(i)
		if _, ok := c.lease.take(id); ok {
			c.putBack(id, 0, 0, keyFresh)
			c.messages--
		}
	}
	c.ch.mu.Unlock()
}

// Close gives back everything in flight: the connection is gone.
func (c *Consumer) Close(now int64) {
	if c.closed {
		return
	}
	c.closed = true
	c.StoreFins()
	n := 0
	c.ch.mu.Lock()
	c.Refresh()
	c.lease.all(func(id uint64) {
		s, p, _ := mmapq.SplitID(id)
		c.putBack(id, c.backoff(c.ch.states[s].Get(p)), now, 0)
		n++
	})
	c.ch.timeouts += uint64(n)
	c.ch.mu.Unlock()
	c.dirtied = true
	c.EndBatch()
	c.ch.removeConsumer(c)
}
