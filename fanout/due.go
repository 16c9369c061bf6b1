package fanout

import (
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// dueHeap holds a channel's deferred messages, 16 bytes each, earliest first. Guarded by the channel's mutex.
type dueHeap struct{ list minHeap[dueEntry] }

type dueEntry struct {
	due int64 // Now() nanoseconds
	key sideKey
}

// before orders by due time, then by position: what was published with the same due time comes in the order of publishing.
func (e dueEntry) before(f dueEntry) bool { return e.due < f.due || e.due == f.due && e.key < f.key }

func (h *dueHeap) len() int { return len(h.list) }

func (h *dueHeap) clear() { h.list = nil }

func (h *dueHeap) push(e dueEntry) { h.list.push(e) }

func (h *dueHeap) pop() dueEntry {
	e := h.list.pop()
	if len(h.list) == 0 {
		h.list = nil // it may have been large
	}
	return e
}

func (h *dueHeap) holds(s mmapq.Stream, p mmapq.Pos) bool {
	for _, e := range h.list[:min(len(h.list), searchLimit)] {
		if e.key.pos() == p && e.key.stream() == s {
			return true
		}
	}
	return false
}

// lockSteps bounds how many deferred messages are moved under one hold of a channel's mutex: its loops wait meanwhile.
const lockSteps = 4096

// pullDeferred takes over messages of the deferred stream that became visible: from now on the channel's heap holds them until they are due.
func (ch *Channel) pullDeferred() {
	for ch.pullSome() {
	}
}

// pullSoon is pullDeferred for loops, after a publish: as a rule what it takes over has just been appended. What became visible otherwise, a topic
// that is being opened, say, may be long and not in memory: another goroutine takes that over.
func (ch *Channel) pullSoon(now int64) {
	if ch.t.ephemeral || !ch.pullsLater(now) {
		ch.pullDeferred()
	}
}

// pullsLater tells whether another goroutine takes over what there is.
func (ch *Channel) pullsLater(now int64) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	l, at, limit := ch.t.logs[streamDeferred], ch.cursor[streamDeferred], ch.t.visible(streamDeferred)
	if ch.gone.Load() || at >= limit || l.DuesHot(at, limit, lockSteps, now) {
		return false
	}
	if !ch.pulling {
		ch.pulling = true
		l.Fetch(at, limit, now, func() {
			ch.mu.Lock()
			ch.pulling = false // what is published from here on is pulled by whoever publishes it, or below
			ch.mu.Unlock()
			ch.pullDeferred()
		})
	}
	return true
}

// pullSome reports whether there is more to take over.
func (ch *Channel) pullSome() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.gone.Load() {
		return false
	}
	l := ch.t.logs[streamDeferred]
	limit := ch.t.visible(streamDeferred)
	at := ch.cursor[streamDeferred]
	if at >= limit {
		return false
	}
	for n := 0; at < limit && n < lockSteps; {
		was := ch.deferred.len()
		at = l.EachDue(at, limit, lockSteps, func(p mmapq.Pos, due int64) {
			ch.deferred.push(dueEntry{ch.t.b.fromMillis(due), makeKey(streamDeferred, p) | keyFresh})
		})
		n += max(ch.deferred.len()-was, 1)
		ch.arrived += uint64(ch.deferred.len() - was)
	}
	ch.cursor[streamDeferred] = at
	ch.slot.SetCursor(streamDeferred, at)
	ch.schedule()
	return at < limit
}

// schedule tells the clock of the earliest due time. Caller holds mu.
func (ch *Channel) schedule() {
	if len(ch.deferred.list) == 0 {
		return
	}
	due := ch.deferred.list[0].due
	if ch.nextDue == 0 || due < ch.nextDue {
		ch.nextDue = due
		ch.t.b.clock.add(due, ch)
	}
}

// fall moves what is due to the side queue, at most lockSteps messages: the clock comes back at once for the rest.
func (ch *Channel) fall(now int64) {
	ch.mu.Lock()
	if ch.nextDue != 0 && ch.nextDue <= now {
		ch.nextDue = 0
	}
	n := 0
	for len(ch.deferred.list) > 0 && ch.deferred.list[0].due <= now && n < lockSteps {
		ch.side.push(ch.deferred.pop().key, ch.t.visible(streamMain))
		n++
	}
	ch.schedule()
	ch.mu.Unlock()
	if n > 0 {
		ch.wake()
	}
}

// dueClock is one goroutine that sleeps until the earliest due time of any channel.
type dueClock struct {
	mu   sync.Mutex
	heap minHeap[clockEntry]
	bell chan struct{}
	quit chan struct{}
	wg   sync.WaitGroup
}

type clockEntry struct {
	due int64
	ch  *Channel
}

func (e clockEntry) before(f clockEntry) bool { return e.due < f.due }

func newDueClock() *dueClock {
	return &dueClock{bell: make(chan struct{}, 1), quit: make(chan struct{})}
}

func (k *dueClock) start() { k.wg.Go(k.run) }

func (k *dueClock) stop() {
	close(k.quit)
	k.wg.Wait()
}

// add remembers that ch has something due. Caller holds ch.mu.
func (k *dueClock) add(due int64, ch *Channel) {
	k.mu.Lock()
	k.heap.push(clockEntry{due, ch})
	first := k.heap[0].due == due
	k.mu.Unlock()
	if first {
		select {
		case k.bell <- struct{}{}:
		default:
		}
	}
}

// take removes and returns a channel that is due at now; else wait is the time until the earliest one.
func (k *dueClock) take(now int64) (ch *Channel, wait time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.heap) == 0 {
		return nil, time.Hour
	}
	if due := k.heap[0].due; due > now {
		return nil, time.Duration(due - now)
	}
	return k.heap.pop().ch, 0
}

func (k *dueClock) run() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		ch, wait := k.take(Now())
		if ch != nil {
			ch.fall(Now())
			continue
		}
		t.Reset(wait)
		select {
		case <-k.quit:
			return
		case <-k.bell:
		case <-t.C:
		}
	}
}
