package fanout

import (
	"cmp"
	"slices"
	"time"
)

// The reference model: what the queues hold, told with slices and maps. It knows nothing of logs, positions, floors or segments.

// refMsg is a published message, the same for all channels.
type refMsg struct {
	number, size int
	seq          int   // order of publishing within its stream
	due          int64 // Now() ns; 0 = published without delay
	id           string
}

// before orders by stream, then by age, as ids do.
func (m *refMsg) before(n *refMsg) int {
	if (m.due == 0) != (n.due == 0) {
		if m.due == 0 {
			return -1
		}
		return 1
	}
	return cmp.Compare(m.seq, n.seq)
}

// refItem is a message that came back to a channel. fresh: this delivery is no further attempt.
type refItem struct {
	m     *refMsg
	fresh bool
	after int   // how many had arrived when it was put back
	due   int64 // while deferred
	asked bool  // the delay was asked for by REQ: it survives
}

type refHeld struct {
	m                   *refMsg
	exc                 bool // redelivered or touched
	delivered, deadline int64
}

type refConsumer struct {
	ch      *refChannel
	timeout int64
	touch   int64
	rdy     int
	closing bool
	held    []*refHeld // in the order of delivery
}

func (c *refConsumer) credit() int {
	if c.closing || c.ch.paused {
		return 0
	}
	return max(0, c.rdy-len(c.held))
}

func (c *refConsumer) nextDeadline() int64 {
	next := int64(0)
	for _, h := range c.held {
		if next == 0 || h.deadline < next {
			next = h.deadline
		}
	}
	return next
}

type refChannel struct {
	name      string
	t         *refTopic
	paused    bool
	queue     []*refMsg // arrived, never claimed
	arrived   int       // messages without delay that arrived, ever
	counted   int       // how many of them before the start
	pulled    int       // deferred ones that arrived since start
	side      []refItem
	deferred  []refItem
	consumers []*refConsumer
	stored    map[*refMsg]int // deliveries as they would survive a kill
	highest   map[*refMsg]int // attempts seen by a consumer
	requeues  int
	timeouts  int
}

type refTopic struct {
	name     string
	paused   bool
	channels map[string]*refChannel
	held     []*refMsg // published while nothing is forwarded, both streams
	count    int
	bytes    int
}

func newRefTopic(name string) *refTopic {
	return &refTopic{name: name, channels: map[string]*refChannel{}}
}

func (t *refTopic) channel(name string) *refChannel {
	if ch := t.channels[name]; ch != nil {
		return ch
	}
	ch := &refChannel{name: name, t: t, stored: map[*refMsg]int{}, highest: map[*refMsg]int{}}
	t.channels[name] = ch
	t.forward()
	return ch
}

func (t *refTopic) publish(m *refMsg) {
	t.count++
	t.bytes += m.size
	t.held = append(t.held, m)
	t.forward()
}

// forward gives every channel its copy of what the topic holds.
func (t *refTopic) forward() {
	if t.paused || len(t.channels) == 0 {
		return
	}
	for _, ch := range t.channels {
		for _, m := range t.held {
			if m.due == 0 {
				ch.queue = append(ch.queue, m)
				ch.arrived++
			} else {
				ch.deferred = append(ch.deferred, refItem{m: m, fresh: true, due: m.due})
				ch.pulled++
			}
		}
	}
	t.held = nil
}

// fall moves what is due to the side queue.
func (ch *refChannel) fall(now int64) {
	slices.SortStableFunc(ch.deferred, func(a, b refItem) int {
		fresh := func(x refItem) int {
			if x.fresh {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(fresh(a), fresh(b)), a.m.before(b.m))
	})
	for len(ch.deferred) > 0 && ch.deferred[0].due <= now {
		ch.putBack(ch.deferred[0].m, 0, now, ch.deferred[0].fresh)
		ch.deferred = ch.deferred[1:]
	}
}

func (ch *refChannel) putBack(m *refMsg, delay time.Duration, now int64, fresh bool) {
	if delay > 0 {
		ch.deferred = append(ch.deferred, refItem{m: m, fresh: fresh, due: now + int64(delay)})
		return
	}
	ch.side = append(ch.side, refItem{m: m, fresh: fresh, after: ch.arrived})
}

// requeue is putBack by REQ.
func (ch *refChannel) requeue(m *refMsg, delay time.Duration, now int64) {
	ch.putBack(m, delay, now, false)
	if delay > 0 {
		ch.deferred[len(ch.deferred)-1].asked = true
	}
}

func (ch *refChannel) sideReady() bool {
	return len(ch.side) > 0 && (ch.side[0].after <= ch.arrived-len(ch.queue) || len(ch.queue) == 0)
}

func (ch *refChannel) claimable() bool { return !ch.paused && len(ch.side)+len(ch.queue) > 0 }

// deliver gives the next message to c and returns the attempts it must carry.
func (ch *refChannel) deliver(c *refConsumer, now int64) (*refMsg, int) {
	h := &refHeld{delivered: now, deadline: now + c.timeout}
	c.held = append(c.held, h)
	if !ch.sideReady() {
		h.m = ch.queue[0]
		ch.queue = ch.queue[1:]
		return h.m, 1
	}
	it := ch.side[0]
	ch.side = ch.side[1:]
	h.m, h.exc = it.m, true
	n := max(ch.stored[it.m], 1)
	if !it.fresh {
		n++
	}
	if n > 1 || it.m.due != 0 {
		ch.stored[it.m] = n
	}
	return it.m, n
}

func (c *refConsumer) find(id string) *refHeld {
	i := slices.IndexFunc(c.held, func(h *refHeld) bool { return h.m.id == id })
	if i < 0 {
		return nil
	}
	return c.held[i]
}

func (c *refConsumer) drop(h *refHeld) {
	c.held = slices.DeleteFunc(c.held, func(x *refHeld) bool { return x == h })
}

// outcome is what FIN, REQ and TOUCH of id by c must answer.
func (c *refConsumer) outcome(id string) error {
	if c.find(id) != nil {
		return nil
	}
	for _, other := range c.ch.consumers {
		if other.find(id) != nil {
			return ErrNotOwner
		}
	}
	return ErrNotInFlight
}

// giveBack takes out what f chooses, in the order in which a lease gives up: first deliveries as they came, then the rest by less.
func (c *refConsumer) giveBack(f func(*refHeld) bool, less func(a, b *refHeld) int) []*refHeld {
	var runs, exc []*refHeld
	for _, h := range c.held {
		switch {
		case !f(h):
		case h.exc:
			exc = append(exc, h)
		default:
			runs = append(runs, h)
		}
	}
	c.held = slices.DeleteFunc(c.held, f)
	slices.SortFunc(exc, less)
	return append(runs, exc...)
}

func (c *refConsumer) expire(now int64) int {
	list := c.giveBack(func(h *refHeld) bool { return h.deadline <= now }, func(a, b *refHeld) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), a.m.before(b.m))
	})
	for _, h := range list {
		c.ch.putBack(h.m, 0, now, false)
	}
	c.ch.timeouts += len(list)
	return len(list)
}

func (c *refConsumer) close(now int64) {
	list := c.giveBack(func(*refHeld) bool { return true }, func(a, b *refHeld) int { return a.m.before(b.m) })
	for _, h := range list {
		delay := time.Duration(0)
		if n := c.ch.stored[h.m]; n >= 2 {
			delay = min(100*time.Millisecond<<min(n-2, 20), time.Duration(c.timeout))
		}
		c.ch.putBack(h.m, delay, now, false)
	}
	c.ch.timeouts += len(list)
	c.ch.consumers = slices.DeleteFunc(c.ch.consumers, func(x *refConsumer) bool { return x == c })
}

func (ch *refChannel) empty() {
	ch.queue, ch.side, ch.deferred = nil, nil, nil
	for _, c := range ch.consumers {
		c.held = nil
	}
}

func (ch *refChannel) inFlight() (n int) {
	for _, c := range ch.consumers {
		n += len(c.held)
	}
	return n
}

// restart is what a kill or a clean stop and the next start make of a channel: what was claimed is put back in front. Delays asked for by REQ
// or given when publishing hold, those after a lost connection are forgotten.
func (ch *refChannel) restart(now int64) {
	var back []*refMsg
	for _, c := range ch.consumers {
		for _, h := range c.held {
			back = append(back, h.m)
		}
	}
	var waiting []refItem
	for _, it := range append(ch.side, ch.deferred...) {
		if it.asked && it.due > now {
			waiting = append(waiting, it)
		} else {
			back = append(back, it.m)
		}
	}
	slices.SortFunc(back, (*refMsg).before)
	ch.consumers, ch.side, ch.deferred = nil, nil, waiting
	ch.counted, ch.pulled, ch.requeues, ch.timeouts = ch.arrived, 0, 0, 0
	for _, m := range back {
		if m.due != 0 && ch.stored[m] == 0 {
			ch.deferred = append(ch.deferred, refItem{m: m, fresh: true, due: m.due})
			continue
		}
		ch.side = append(ch.side, refItem{m: m})
	}
	ch.fall(now)
}
