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
	list    atomic.Pointer[[]*Channel]              // sorted by name; replaced under mu
	queued  atomic.Bool                             // waits for the reclaimer
	kept    [2]kept                                 // by stream; the reclaimer's
	refused struct{ messages, bytes atomic.Uint64 } // see admit

	mu    sync.Mutex
	meta  mmapq.TopicMeta // Paused, Held and HeldAt as last recorded
	dying []*Channel      // what the list held when the topic ended

	starting bool          // held whatever else is true, see start.go; guarded by mu
	started  chan struct{} // closed when starting ends; nil if it never was

	ending   sync.Mutex // one deletion at a time; taken before mu
	recorded bool       // the deletion is
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

// replaceable tells that a new topic may take the name at once: of an ephemeral topic nothing is recorded.
func (t *Topic) replaceable() bool { return t.ephemeral && t.deleted.Load() }

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

// closeNow ends visibility: nothing published after it returns is visible to channels. It returns where, which no cursor has passed. Caller
// holds mu.
func (t *Topic) closeNow() (at [2]mmapq.Pos) {
	for s := range t.held {
		at[s] = t.logs[s].Committed()
		t.held[s].Store(uint64(at[s]) + 1)
	}
	for _, ch := range *t.list.Load() {
		// A claim that began before the hold has ended when this lock is had, and may have gone beyond what was just read.
		ch.mu.Lock()
		for s := range at {
			at[s] = max(at[s], ch.cursor[s])
		}
		ch.mu.Unlock()
	}
	for s := range t.held {
		t.held[s].Store(uint64(at[s]) + 1)
	}
	return at
}

// setMode brings pause and hold to what paused and the number of channels demand. Closing takes effect before record is called (so that
// nothing published after the answer is visible), opening only after it; if record fails, all is as before. Caller holds mu and, when that
// may have opened the topic for existing channels, calls wakeAll.
func (t *Topic) setMode(paused bool, channels int, record func(mmapq.TopicMeta) error) error {
	meta := t.meta
	meta.Paused = paused
	meta.Held = paused || channels == 0 || t.starting
	if meta.Held && !t.meta.Held {
		meta.HeldAt = t.closeNow()
	}
	if err := record(meta); err != nil {
		if t.showHeld(); !t.meta.Held {
			t.wakeAll()
		}
		return err
	}
	t.meta = meta
	t.paused.Store(paused)
	t.showHeld()
	return nil
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
	if t.meta.Held && !t.meta.Paused && !t.starting {
		if err := t.setMode(false, len(old)+1, t.save); err != nil {
			// The channel's own record says the same to the next start.
			t.b.opts.Warn("TOPIC(%s): %v", t.name, err)
			t.meta.Held = false
			t.showHeld()
		}
	}
	ch.pullDeferred()
	t.b.opts.Info("TOPIC(%s): new channel(%s)", t.name, ch.name)
	t.b.changed(ch.memory)
	t.b.opts.Announce(t.name, ch.name)
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
	if err := t.setMode(paused, len(*t.list.Load()), t.save); err != nil {
		return err
	}
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
	meta := t.meta
	var dropped uint64
	for s, l := range t.logs {
		end := l.Committed()
		if err := l.Drop(meta.HeldAt[s], end); err != nil {
			return err
		}
		if mmapq.Stream(s) == streamMain {
			dropped = l.Ordinal(end) - l.Ordinal(meta.HeldAt[s])
		}
		meta.HeldAt[s] = max(end, meta.HeldAt[s])
	}
	if err := t.save(meta); err != nil {
		return err
	}
	t.meta = meta
	for _, ch := range *t.list.Load() {
		ch.mu.Lock()
		ch.startOrd += dropped // never arrived
		ch.mu.Unlock()
	}
	t.showHeld()
	t.b.recl.kick(t)
	return nil
}

// without returns the list of channels without ch.
func (t *Topic) without(ch *Channel) []*Channel {
	return slices.DeleteFunc(slices.Clone(*t.list.Load()), func(c *Channel) bool { return c == ch })
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
	rest := t.without(ch)
	err := t.setMode(t.meta.Paused, len(rest), func(meta mmapq.TopicMeta) error {
		switch {
		case t.ephemeral:
			return nil
		case ch.memory:
			return t.b.st.SaveTopic(meta)
		}
		return t.b.st.DeleteChannel(ch.meta, meta)
	})
	if err != nil {
		t.mu.Unlock()
		return true, err
	}
	t.list.Store(&rest)
	ch.end()
	return true, t.removed(ch)
}

// deleteIdle removes an ephemeral channel if it still is without a consumer.
func (t *Topic) deleteIdle(ch *Channel) error {
	t.mu.Lock()
	ch.mu.Lock()
	if ch.gone.Load() || len(ch.consumers) > 0 {
		ch.mu.Unlock()
		t.mu.Unlock()
		return nil
	}
	t.b.opts.Info("TOPIC(%s): deleting channel %s", t.name, ch.name)
	rest := t.without(ch)
	t.list.Store(&rest) // before it is gone: who fails to subscribe to it finds a new one
	ch.gone.Store(true)
	ch.mu.Unlock()
	ch.end()
	if len(rest) == 0 {
		err := t.setMode(t.meta.Paused, 0, func(meta mmapq.TopicMeta) error {
			if err := t.save(meta); err != nil {
				t.b.opts.Warn("TOPIC(%s): %v", t.name, err) // the channel is gone all the same
			}
			return nil
		})
		if err != nil {
			t.mu.Unlock()
			return err
		}
	}
	return t.removed(ch)
}

// removed ends the removal of ch, which is out of the list: an ephemeral topic goes with its last channel. Caller holds mu; it is released.
func (t *Topic) removed(ch *Channel) error {
	last := t.ephemeral && len(*t.list.Load()) == 0
	if last {
		t.end() // who comes from now on finds a new topic
	}
	t.mu.Unlock()
	t.b.recl.buryChannel(ch)
	t.b.changed(ch.memory)
	t.b.opts.Announce(t.name, ch.name)
	t.b.recl.kick(t)
	if !last {
		return nil
	}
	_, err := t.destroy()
	return err
}

// end refuses everything from now on and disconnects all consumers. Caller holds mu.
func (t *Topic) end() {
	t.deleted.Store(true)
	for _, l := range t.logs {
		l.Close()
	}
	t.dying = append(t.dying, *t.list.Load()...)
	t.list.Store(&[]*Channel{})
	for _, ch := range t.dying {
		ch.end()
	}
}

// destroy deletes the topic. false: somebody else did. The broker forgets it only when that is recorded: until then a topic of the same name
// would share its name and perhaps its positions after a kill. After an error it can be called again.
func (t *Topic) destroy() (bool, error) {
	t.ending.Lock()
	defer t.ending.Unlock()
	if t.recorded {
		return false, nil
	}
	t.mu.Lock()
	t.b.opts.Info("TOPIC(%s): deleting", t.name)
	t.end()
	meta := t.meta
	t.mu.Unlock()
	if !t.ephemeral {
		if err := t.b.st.DeleteTopic(meta, t.logs); err != nil {
			return true, err
		}
	}
	t.recorded = true
	t.b.forget(t)
	for _, ch := range t.dying {
		t.b.recl.buryChannel(ch)
		t.b.opts.Announce(t.name, ch.name)
	}
	t.b.recl.bury(t)
	t.b.changed(t.ephemeral)
	t.b.opts.Announce(t.name, "")
	return true, nil
}
