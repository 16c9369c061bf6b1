package fanout

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

const (
	streamMain     = mmapq.StreamMain
	streamDeferred = mmapq.StreamDeferred
)

// Topic is a log that channels read. It is open (channels see all that is committed) or held: while paused or without a channel, what is
// published stays out of sight of channels, and the place where that began is recorded before the command that caused it is answered.
type Topic struct {
	b         *Broker
	name      string
	ephemeral bool
	logs      [2]*mmapq.Log // by stream

	// held is, per stream, 0 while open, else 1 + the position where visibility ends. Changed under mu.
	held    [2]atomic.Uint64
	paused  atomic.Bool
	deleted atomic.Bool
	list    atomic.Pointer[[]*Channel] // sorted by name; replaced under mu
	queued  atomic.Bool                // waits for the reclaimer

	mu   sync.Mutex
	meta mmapq.TopicMeta // Paused, Held and HeldAt as last recorded
}

func newTopic(b *Broker, meta mmapq.TopicMeta, logs [2]*mmapq.Log, ephemeral bool) *Topic {
	meta.Channels = nil
	t := &Topic{b: b, name: meta.Name, ephemeral: ephemeral, logs: logs, meta: meta}
	t.list.Store(&[]*Channel{})
	t.paused.Store(meta.Paused)
	t.showHeld()
	return t
}

// Name returns the topic's name.
func (t *Topic) Name() string { return t.name }

// Deleted tells that the topic is gone; publishing to it answers ErrExiting.
func (t *Topic) Deleted() bool { return t.deleted.Load() }

// Ephemeral topics leave nothing on the disk.
func (t *Topic) Ephemeral() bool { return t.ephemeral }

// Paused tells whether publishes stay at the topic.
func (t *Topic) Paused() bool { return t.paused.Load() }

// visible returns the end of what channels may claim.
func (t *Topic) visible(s mmapq.Stream) mmapq.Pos {
	if h := t.held[s].Load(); h != 0 {
		return mmapq.Pos(h - 1)
	}
	return t.logs[s].Committed()
}

// showHeld makes the recorded hold effective.
func (t *Topic) showHeld() {
	for s := range t.held {
		h := uint64(0)
		if t.meta.Held {
			h = uint64(t.meta.HeldAt[s]) + 1
		}
		t.held[s].Store(h)
	}
}

// setHold changes the mode to what paused and the number of channels demand and returns the new record. Caller holds mu, stores the record and
// then calls showHeld. Closing takes effect at once (so that nothing published after the answer is visible); opening only after the record is
// stored.
func (t *Topic) setHold(hold bool) mmapq.TopicMeta {
	if hold && !t.meta.Held {
		for s := range t.held {
			t.meta.HeldAt[s] = t.logs[s].Committed()
		}
		t.meta.Held = true
		t.showHeld()
		for _, ch := range *t.list.Load() {
			// A claim that began before the hold has ended when this lock is had.
			ch.mu.Lock()
			ch.mu.Unlock() //nolint:staticcheck // barrier
		}
	} else if !hold {
		t.meta.Held = false
	}
	return t.meta
}

// Channels returns all channels by name.
func (t *Topic) Channels() []*Channel { return *t.list.Load() }

// LookupChannel returns nil if there is no such channel.
func (t *Topic) LookupChannel(name string) *Channel {
	list := *t.list.Load()
	if i, ok := slices.BinarySearchFunc(list, name, func(c *Channel, n string) int { return strings.Compare(c.name, n) }); ok {
		return list[i]
	}
	return nil
}

// Channel returns the channel, creating it if missing; name must be valid. The first channel of a topic starts where the topic's backlog
// begins, a later one at the end.
func (t *Topic) Channel(name []byte) (*Channel, error) {
	if ch := t.LookupChannel(string(name)); ch != nil {
		return ch, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch := t.LookupChannel(string(name)); ch != nil {
		return ch, nil
	}
	if t.deleted.Load() {
		return nil, ErrExiting
	}
	old := *t.list.Load()
	if n := t.b.opts.MaxChannelsPerTopic; n > 0 && len(old) >= n {
		return nil, ErrTooManyChannels
	}
	ephemeral := codec.IsEphemeral(name)
	start := [2]mmapq.Pos{t.visible(streamMain), t.visible(streamDeferred)}
	meta, slot, states, err := t.b.st.CreateChannel(t.meta, string(name), start, ephemeral || t.ephemeral)
	if err != nil {
		return nil, err
	}
	ch := newChannel(t, meta, ephemeral, slot, states, start, start)
	t.insert(ch)
	if t.meta.Held && !t.meta.Paused {
		if err := t.save(t.setHold(false)); err != nil {
			return nil, err
		}
		t.showHeld()
	}
	ch.pullDeferred()
	t.b.opts.Info("TOPIC(%s): new channel(%s)", t.name, ch.name)
	t.b.opts.Changed()
	return ch, nil
}

// insert adds ch to the sorted list. Caller holds mu, or nobody else knows the topic yet.
func (t *Topic) insert(ch *Channel) {
	old := *t.list.Load()
	i, _ := slices.BinarySearchFunc(old, ch.name, func(c *Channel, n string) int { return strings.Compare(c.name, n) })
	list := slices.Insert(slices.Clone(old), i, ch)
	t.list.Store(&list)
}

func (t *Topic) save(meta mmapq.TopicMeta) error {
	if t.ephemeral {
		return nil
	}
	return t.b.st.SaveTopic(meta)
}

// SetPaused holds or opens the topic. Recorded before it returns.
func (t *Topic) SetPaused(paused bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.deleted.Load() {
		return ErrExiting
	}
	t.meta.Paused = paused
	err := t.save(t.setHold(paused || len(*t.list.Load()) == 0))
	if err != nil {
		return err
	}
	t.paused.Store(paused)
	t.showHeld()
	t.wakeAll()
	t.b.opts.Changed()
	return nil
}

// wakeAll tells every channel that more may be visible.
func (t *Topic) wakeAll() {
	for _, ch := range *t.list.Load() {
		ch.pullDeferred()
		ch.wake()
	}
}

// Empty drops what is still held at the topic; channels keep what they see.
func (t *Topic) Empty() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.meta.Held {
		return nil
	}
	for s, l := range t.logs {
		end := l.Committed()
		if err := l.Drop(t.meta.HeldAt[s], end); err != nil {
			return err
		}
		t.meta.HeldAt[s] = end
	}
	if err := t.save(t.meta); err != nil {
		return err
	}
	t.showHeld()
	t.b.recl.kick(t)
	return nil
}

// DeleteChannel removes a channel; its consumers are disconnected. false: there is none.
func (t *Topic) DeleteChannel(name string) (bool, error) {
	t.mu.Lock()
	ch := t.LookupChannel(name)
	if ch == nil {
		t.mu.Unlock()
		return false, nil
	}
	t.b.opts.Info("TOPIC(%s): deleting channel %s", t.name, name)
	list := slices.DeleteFunc(slices.Clone(*t.list.Load()), func(c *Channel) bool { return c == ch })
	t.list.Store(&list)
	var err error
	meta := t.setHold(t.meta.Paused || len(list) == 0)
	switch {
	case t.ephemeral:
	case ch.memory:
		err = t.save(meta)
	default:
		err = t.b.st.DeleteChannel(ch.meta, meta)
	}
	last := len(list) == 0 && t.ephemeral
	t.mu.Unlock()
	ch.destroy()
	t.b.opts.Changed()
	if last {
		_, err2 := t.b.DeleteTopic(t.name)
		if err == nil {
			err = err2
		}
	}
	t.b.recl.kick(t)
	return true, err
}

// destroy ends a topic that is out of the broker's map already.
func (t *Topic) destroy() error {
	t.b.opts.Info("TOPIC(%s): deleting", t.name)
	t.mu.Lock()
	t.deleted.Store(true)
	list := *t.list.Load()
	t.list.Store(&[]*Channel{})
	for _, l := range t.logs {
		l.Close()
	}
	meta := t.meta
	t.mu.Unlock()
	for _, ch := range list {
		ch.destroy()
	}
	var err error
	if !t.ephemeral {
		err = t.b.st.DeleteTopic(meta, t.logs)
	}
	t.b.recl.bury(t)
	t.b.opts.Changed()
	return err
}
