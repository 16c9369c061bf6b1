package fanout

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nsqloop/nsqloop/mmapq"
)

// Channel is a cursor over its topic's log, and beside it the messages that were claimed once and came back.
//
// Ownership: mu guards cursor, floors, side, deferred and the consumer set. Loops take it once per claim and per message put back. What is in
// flight belongs to the consumers' leases. floor[s] <= every unfinished position; below the cursor every unfinished position is in exactly one
// of: a lease, side, deferred.
type Channel struct {
	t      *Topic
	name   string
	memory bool              // cursor and state live on the heap: the channel or its topic is ephemeral
	meta   mmapq.ChannelMeta // Paused is guarded by the topic's mu
	slot   *mmapq.ChannelSlot
	states [2]*mmapq.State

	ephemeral bool
	paused    atomic.Bool
	gone      atomic.Bool
	ready     atomic.Int32  // consumers of all loops that could take a message
	hungry    atomic.Uint64 // loops whose ready consumers found nothing, one bit each
	epoch     atomic.Uint64 // counts Empty; a lease of an older epoch holds nothing

	mu        sync.Mutex
	cursor    [2]mmapq.Pos // main: next to claim; deferred: next to take into deferred
	floor     [2]mmapq.Pos
	side      sideQueue
	deferred  dueHeap
	nextDue   int64 // earliest time the clock knows of; 0 = none
	consumers []*Consumer
	past      ConsumerCounters // of consumers that are gone
	timeouts  uint64
	arrived   uint64 // deferred messages taken over since start
	startOrd  uint64 // ordinal of the main stream when counting began
	skips     []skipRange
	fetching  bool // what is next is being read from the disk; nothing is claimed until it is there
	pulling   bool // another goroutine is about to take over deferred messages

	latency *latencyMeter // nil unless percentiles are configured; has its own mutex
}

func newChannel(t *Topic, meta mmapq.ChannelMeta, ephemeral bool, slot *mmapq.ChannelSlot, states [2]*mmapq.State, floor, cursor [2]mmapq.Pos) *Channel {
	ch := &Channel{
		t: t, name: meta.Name, memory: ephemeral || t.ephemeral, ephemeral: ephemeral, meta: meta, slot: slot, states: states,
		floor: floor, cursor: cursor,
	}
	ch.latency = newLatencyMeter(t.b.opts.LatencyQuantiles, int64(t.b.opts.LatencyWindow), Now())
	ch.paused.Store(meta.Paused)
	ch.startOrd = t.logs[streamMain].Ordinal(t.visible(streamMain))
	return ch
}

// Name returns the channel's name.
func (ch *Channel) Name() string { return ch.name }

// Topic returns the channel's topic.
func (ch *Channel) Topic() *Topic { return ch.t }

// Paused tells whether deliveries are stopped.
func (ch *Channel) Paused() bool { return ch.paused.Load() }

// Ephemeral channels die with their last consumer.
func (ch *Channel) Ephemeral() bool { return ch.ephemeral }

// AddReady tells the channel that the number of consumers of all loops which could take a message (credit, nothing unsent) changed by delta.
// The claim rule divides what is available by this number.
func (ch *Channel) AddReady(delta int) { ch.ready.Add(int32(delta)) }

// Park sets this loop's hungry bit and then tells whether something is claimable after all: the caller claims again at once. After false,
// WakeChannel follows as soon as there is something.
func (ch *Channel) Park(loop int) bool {
	ch.hungry.Or(1 << uint(loop))
	return ch.claimable()
}

func (ch *Channel) claimable() bool {
	if ch.paused.Load() || ch.gone.Load() {
		return false
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return !ch.fetching && (ch.cursor[streamMain] < ch.t.visible(streamMain) || ch.side.len() > 0)
}

// fetch has what is next read by a goroutine that may wait for the disk, and then wakes the loops. Caller holds mu.
func (ch *Channel) fetch(s mmapq.Stream, p, limit mmapq.Pos, now int64) {
	ch.fetching = true
	ch.t.logs[s].Fetch(p, limit, now, func() {
		ch.mu.Lock()
		ch.fetching = false
		ch.mu.Unlock()
		ch.wake()
	})
}

// sideReady tells whether the first message of the side queue is next: the cursor has come to where it was put back, or to the end of what
// is visible (which a pause of the topic may have moved back). Caller holds mu.
func (ch *Channel) sideReady(limit mmapq.Pos) bool {
	return ch.side.len() > 0 && (ch.side.first().after <= ch.cursor[streamMain] || ch.cursor[streamMain] >= limit)
}

// wake rings every hungry loop once. Called after each event that can make something claimable: commit, visible moved, unpause, side queue
// grew, something fell due.
func (ch *Channel) wake() {
	if ch.hungry.Load() != 0 {
		ch.t.b.each(ch.hungry.Swap(0), func(s LoopSink) { s.WakeChannel(ch) })
	}
}

// changed tells every loop that has consumers of ch to look at their credit again.
func (ch *Channel) changed() {
	ch.mu.Lock()
	mask := uint64(0)
	for _, c := range ch.consumers {
		mask |= 1 << uint(c.loop)
	}
	ch.mu.Unlock()
	ch.t.b.each(mask, func(s LoopSink) { s.ChannelChanged(ch) })
}

// SetPaused stops or resumes deliveries. Recorded before it returns; no claim is under way or begins after it has stopped them.
func (ch *Channel) SetPaused(paused bool) error {
	t := ch.t
	t.mu.Lock() // not the channel's: loops must not wait for the record
	defer t.mu.Unlock()
	if ch.gone.Load() {
		return ErrExiting
	}
	meta := ch.meta
	meta.Paused = paused
	if !ch.memory {
		if err := t.b.st.SaveChannelPaused(meta); err != nil {
			return err
		}
	}
	ch.meta.Paused = paused // nothing else: its other fields are read without a lock
	ch.mu.Lock()
	ch.paused.Store(paused)
	ch.mu.Unlock()
	ch.changed()
	ch.wake()
	t.b.opts.Changed()
	return nil
}

// Empty drops everything the channel holds: what is not claimed yet, in flight, deferred or put back. Leases learn of it by the epoch.
func (ch *Channel) Empty() error {
	if !ch.dropAll() {
		return ErrExiting
	}
	for _, s := range ch.states {
		s.MarkDirty()
	}
	ch.changed()
	ch.t.b.recl.kick(ch.t)
	return nil
}

// dropAll is false when the channel is gone.
func (ch *Channel) dropAll() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock() // also when the channel's place in the table cannot be written
	if ch.gone.Load() {
		return false
	}
	ch.drop()
	return true
}

// drop is the part of Empty that happens at once. Caller holds mu.
func (ch *Channel) drop() {
	ch.side.clear()
	ch.deferred.clear()
	ch.skips = nil
	for s := range ch.cursor {
		end := max(ch.cursor[s], ch.t.visible(mmapq.Stream(s)))
		ch.cursor[s], ch.floor[s] = end, end
		ch.slot.SetCursor(mmapq.Stream(s), end)
		mmapq.AtPoint(mmapq.PointEmpty)
		ch.slot.SetFloor(mmapq.Stream(s), end)
	}
	ch.epoch.Add(1)
}

// grace tells that no lease of an earlier epoch is left: nothing below the floors is in flight. Caller holds mu.
func (ch *Channel) grace() bool {
	e := ch.epoch.Load()
	return !slices.ContainsFunc(ch.consumers, func(c *Consumer) bool { return c.epoch.Load() != e })
}

// end refuses everything from now on and disconnects the consumers. What the channel used is given back by the reclaimer when they are all
// gone. Caller holds the topic's mu.
func (ch *Channel) end() {
	ch.mu.Lock()
	ch.gone.Store(true)
	mask := uint64(0)
	for _, c := range ch.consumers {
		mask |= 1 << uint(c.loop)
	}
	ch.side.clear()
	ch.deferred.clear()
	ch.skips = nil
	ch.mu.Unlock()
	ch.t.b.each(mask, func(s LoopSink) { s.ChannelGone(ch) })
}

// AddConsumer subscribes a connection that lives on loop. The error's text is what follows "SUB failed ".
func (ch *Channel) AddConsumer(loop int, opts ConsumerOptions) (*Consumer, error) {
	if opts.MsgTimeout <= 0 {
		opts.MsgTimeout = ch.t.b.opts.MsgTimeout
	}
	if opts.TouchTimeout <= 0 {
		opts.TouchTimeout = opts.MsgTimeout
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.gone.Load() {
		return nil, ErrExiting
	}
	if n := ch.t.b.opts.MaxChannelConsumers; n > 0 && len(ch.consumers) >= n {
		return nil, fmt.Errorf("consumers for %s:%s exceeds limit of %d", ch.t.name, ch.name, n)
	}
	c := &Consumer{
		ch: ch, loop: loop, sample: opts.SampleRate,
		timeout: int64(opts.MsgTimeout), touch: int64(opts.TouchTimeout), maxTimeout: int64(ch.t.b.opts.MaxMsgTimeout),
	}
	c.epoch.Store(ch.epoch.Load())
	ch.consumers = append(ch.consumers, c)
	return c, nil
}

// removeConsumer forgets a closed connection; an ephemeral channel goes with its last one.
func (ch *Channel) removeConsumer(c *Consumer) {
	ch.mu.Lock()
	ch.consumers = slices.DeleteFunc(ch.consumers, func(x *Consumer) bool { return x == c })
	n := c.Counters()
	ch.past.Messages += n.Messages
	ch.past.Finished += n.Finished
	ch.past.Requeued += n.Requeued
	last := ch.ephemeral && len(ch.consumers) == 0 && !ch.gone.Load()
	ch.mu.Unlock()
	if last {
		if err := ch.t.deleteIdle(ch); err != nil {
			ch.t.b.opts.Warn("CHANNEL(%s): %v", ch.name, err)
		}
	}
}
