package fanout

import (
	"math"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// dueHeap holds a channel's deferred messages, 16 bytes each, earliest first (a binary heap). Guarded by the channel's mutex.
type dueHeap struct{ list []dueEntry }

type dueEntry struct {
	due int64 // Now() nanoseconds
	key sideKey
}

// before orders by due time, then by position: what was published with the same due time comes in the order of publishing.
func (e dueEntry) before(f dueEntry) bool { return e.due < f.due || e.due == f.due && e.key < f.key }

func (h *dueHeap) len() int { return len(h.list) }

func (h *dueHeap) clear() { h.list = nil }

func (h *dueHeap) push(e dueEntry) {
	h.list = append(h.list, e)
	for i := len(h.list) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.list[i].before(h.list[up]) {
			return
		}
		h.list[up], h.list[i] = h.list[i], h.list[up]
		i = up
	}
}

func (h *dueHeap) pop() dueEntry {
	top := h.list[0]
	n := len(h.list) - 1
	h.list[0] = h.list[n]
	h.list = h.list[:n]
	for i := 0; ; {
		small := 2*i + 1
		if small >= n {
			break
		}
		if r := small + 1; r < n && h.list[r].before(h.list[small]) {
			small = r
		}
		if !h.list[small].before(h.list[i]) {
			break
		}
		h.list[i], h.list[small] = h.list[small], h.list[i]
		i = small
	}
	if n == 0 {
		h.list = nil
	}
	return top
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
		r, next := l.Run(at, limit, 256, math.MaxInt)
		for i := range r.N {
			ch.deferred.push(dueEntry{r.Due(i) * int64(time.Millisecond), makeKey(streamDeferred, r.First+mmapq.Pos(i)) | keyFresh})
		}
		ch.arrived += uint64(r.N)
		n += max(r.N, 1)
		r.Release()
		at = next
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
	heap []clockEntry // by due, a binary heap kept sorted by insertion: channels are few compared to messages
	bell chan struct{}
	quit chan struct{}
	wg   sync.WaitGroup
}

type clockEntry struct {
	due int64
	ch  *Channel
}

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
	i := len(k.heap)
	k.heap = append(k.heap, clockEntry{due, ch})
	for i > 0 && k.heap[(i-1)/2].due > due {
		k.heap[i] = k.heap[(i-1)/2]
		i = (i - 1) / 2
	}
	k.heap[i] = clockEntry{due, ch}
	first := i == 0
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
	top := k.heap[0]
	if top.due > now {
		return nil, time.Duration(top.due - now)
	}
	n := len(k.heap) - 1
	e := k.heap[n]
	k.heap[n] = clockEntry{}
	k.heap = k.heap[:n]
	i := 0
	for {
		small := 2*i + 1
		if small >= n {
			break
		}
		if r := small + 1; r < n && k.heap[r].due < k.heap[small].due {
			small = r
		}
		if e.due <= k.heap[small].due {
			break
		}
		k.heap[i] = k.heap[small]
		i = small
	}
	if n > 0 {
		k.heap[i] = e
	}
	return top.ch, 0
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
