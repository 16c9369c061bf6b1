package fanout

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

// LoopSink is what an event loop offers to the broker. Every method may be called from any goroutine, must not block and must not call back
// into fanout on the caller's stack: it posts to the loop's mailbox.
type LoopSink interface {
	// WakeChannel: consumers of ch on this loop may have something to take (the loop's hungry bit was set).
	WakeChannel(ch *Channel)
	// ChannelChanged: ch was emptied, paused or unpaused. The credit of every consumer of ch on this loop may have changed: call Refresh on
	// each and look at it again.
	ChannelChanged(ch *Channel)
	// ChannelGone: ch was deleted. Close every connection of this loop that consumes it, without a frame.
	ChannelGone(ch *Channel)
	// AcksSettled: an Ack this loop subscribed to may have settled.
	AcksSettled()
}

// MaxLoops is how many loops fit into the bit masks.
const MaxLoops = 64

// Options of a Broker. Zero limits mean none, except where a default is named.
type Options struct {
	MsgTimeout          time.Duration // default of a consumer that asks for none; 60 s
	MaxMsgTimeout       time.Duration // bound of TOUCH; 15 min
	MemQueueSize        int64         // bound of ephemeral topics and channels, 0 too; what depth reporting calls memory
	MaxTopics           int
	MaxChannelsPerTopic int
	MaxChannelConsumers int
	LatencyQuantiles    []float64     // each in (0, 1]; none = the time from publish to FIN is not measured
	LatencyWindow       time.Duration // of that measurement
	Changed             func()        // a durable topic or channel was created or deleted, or any was paused or unpaused; must not block
	Info, Warn          func(format string, args ...any)

	// Announce: a topic, or the channel of it that is named, was created or deleted. It must not block.
	Announce func(topic, channel string)
	// Starting is asked about a topic that was just created, not restored. After true, channels see nothing of it until Topic.Start, whatever is
	// published; so channels that are created before that get everything. It must not block or call back into fanout. nil = false.
	Starting func(t *Topic) bool

	keep *keepLimits // nil: keepDefaults
}

// Broker owns all topics of one data directory.
//
// Lock order: Topic.ending, Broker.mu, Topic.mu, Channel.mu, dueClock.mu; the store's own locks come last.
type Broker struct {
	st    *mmapq.Store
	opts  Options
	sinks [MaxLoops]atomic.Pointer[LoopSink]
	clock *dueClock
	recl  *reclaimer
	keep  keepLimits

	mu     sync.RWMutex
	topics map[string]*Topic
	closed bool

	toDelivery, toFinish Durations // see Usage
}

// Open restores every topic and channel of the directory behind disk and starts the broker's background goroutines. storeOpts.Settled is set
// by Open.
func Open(disk mmapq.Disk, storeOpts mmapq.Options, opts Options) (*Broker, error) {
	if opts.MsgTimeout <= 0 {
		opts.MsgTimeout = time.Minute
	}
	if opts.MaxMsgTimeout <= 0 {
		opts.MaxMsgTimeout = 15 * time.Minute
	}
	nothing := func(string, ...any) {}
	if opts.Info == nil {
		opts.Info = nothing
	}
	if opts.Warn == nil {
		opts.Warn = nothing
	}
	if opts.Changed == nil {
		opts.Changed = func() {}
	}
	if opts.Announce == nil {
		opts.Announce = func(string, string) {}
	}
	b := &Broker{opts: opts, topics: map[string]*Topic{}, keep: keepDefaults}
	if opts.keep != nil {
		b.keep = *opts.keep
	}
	storeOpts.Settled = b.settled
	if storeOpts.Warn == nil {
		storeOpts.Warn = opts.Warn
	}
	st, err := mmapq.Open(disk, storeOpts)
	if err != nil {
		return nil, err
	}
	b.st = st
	b.clock = newDueClock()
	b.recl = newReclaimer(b)
	if err := st.Contain(b.restore); err != nil {
		st.Abandon()
		return nil, err
	}
	b.clock.start()
	b.recl.start()
	return b, nil
}

// AttachLoop registers loop i (below MaxLoops) before any consumer lives on it.
func (b *Broker) AttachLoop(i int, sink LoopSink) { b.sinks[i].Store(&sink) }

// each calls f for the loops of mask.
func (b *Broker) each(mask uint64, f func(LoopSink)) {
	for ; mask != 0; mask &= mask - 1 {
		if s := b.sinks[bits.TrailingZeros64(mask)].Load(); s != nil {
			f(*s)
		}
	}
}

func (b *Broker) settled(loops uint64) { b.each(loops, LoopSink.AcksSettled) }

// Health is nil when publishing works; else its text is what /ping shows behind "NOK - ". A failure lasts for the life of the process, a full
// disk until there is space.
func (b *Broker) Health() error { return cmp.Or(b.st.Failed(), b.st.Full()) }

// WithSpare runs f, which writes a small file beside the log; on a full disk it gets room from the reserve.
func (b *Broker) WithSpare(f func() error) error { return b.st.WithSpare(f) }

// Recovered tells what the start found.
func (b *Broker) Recovered() mmapq.Recovery { return b.st.Recovered() }

// Topic returns the topic, creating it if missing; name must be valid. Any goroutine. The pointer may be kept; once Deleted is true it must be
// looked up again: while the deletion is being recorded it is the same one and answers ErrExiting, afterwards a new one.
func (b *Broker) Topic(name []byte) (*Topic, error) {
	b.mu.RLock()
	t := b.topics[string(name)]
	b.mu.RUnlock()
	if t != nil && !t.replaceable() {
		return t, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.topics[string(name)]
	if old != nil && !old.replaceable() {
		return old, nil
	}
	if b.closed {
		return nil, ErrExiting
	}
	if n := b.opts.MaxTopics; n > 0 && old == nil && len(b.topics) >= n {
		return nil, ErrTooManyTopics
	}
	ephemeral := codec.IsEphemeral(name)
	meta, logs, err := b.st.CreateTopic(string(name), ephemeral)
	if err != nil {
		return nil, err
	}
	t = newTopic(b, meta, logs, ephemeral)
	if b.opts.Starting != nil {
		t.awaitStarting()
	}
	b.topics[t.name] = t
	b.opts.Info("TOPIC(%s): created", t.name)
	b.changed(ephemeral)
	b.opts.Announce(t.name, "")
	return t, nil
}

// LookupTopic returns nil if there is no such topic.
func (b *Broker) LookupTopic(name string) *Topic {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.topics[name]
}

// Topics returns all topics by name.
func (b *Broker) Topics() []*Topic {
	b.mu.RLock()
	list := make([]*Topic, 0, len(b.topics))
	for _, t := range b.topics {
		list = append(list, t)
	}
	b.mu.RUnlock()
	slices.SortFunc(list, func(x, y *Topic) int { return strings.Compare(x.name, y.name) })
	return list
}

// DeleteTopic removes a topic with its channels; their consumers are disconnected. false: there is none. The deletion is durable when it
// returns; after an error it can be repeated.
func (b *Broker) DeleteTopic(name string) (bool, error) {
	t := b.LookupTopic(name)
	if t == nil {
		return false, nil
	}
	return t.destroy()
}

// changed tells that a topic or channel came or went. Of those in memory no list is kept: a service whose consumers come and go on ephemeral
// channels would have nsqd.dat written all day with nothing new in it.
func (b *Broker) changed(memory bool) {
	if !memory {
		b.opts.Changed()
	}
}

// forget takes a deleted topic out of the map, unless its successor is there already.
func (b *Broker) forget(t *Topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[t.name] == t {
		delete(b.topics, t.name)
	}
}

// Close ends the broker after its loops: everything is synced and the directory let go.
func (b *Broker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	for _, t := range b.Topics() {
		for _, l := range t.logs {
			l.Close()
		}
	}
	b.clock.stop()
	b.recl.stop()
	for _, t := range b.Topics() {
		for _, ch := range t.Channels() {
			for _, s := range ch.states {
				s.MarkDirty()
			}
		}
	}
	if err := b.st.Close(); err != nil {
		return fmt.Errorf("closing the data directory: %w", err)
	}
	return nil
}

// Abandon stops the background goroutines and leaves the directory as a kill would. For tests of recovery.
func (b *Broker) Abandon() {
	b.clock.stop()
	b.recl.stop()
	b.st.Abandon()
}
