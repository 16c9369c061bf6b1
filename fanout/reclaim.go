package fanout

import (
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// reclaimer is one goroutine that moves floors up behind finished messages, frees segments that no channel needs, and buries what was deleted.
// It works on topics that something was finished in, at most every reclaimPause, so that the loops' kicks cost one atomic load.
type reclaimer struct {
	b    *Broker
	bell chan struct{}
	quit chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	topics   []*Topic
	dead     []*Topic   // deleted: their logs go when nothing is pinned
	channels []*Channel // deleted: their state goes when their consumers are gone
}

const (
	reclaimPause = 20 * time.Millisecond
	reclaimTick  = time.Second
)

func newReclaimer(b *Broker) *reclaimer {
	return &reclaimer{b: b, bell: make(chan struct{}, 1), quit: make(chan struct{})}
}

func (r *reclaimer) start() { r.wg.Go(r.run) }

func (r *reclaimer) stop() {
	close(r.quit)
	r.wg.Wait()
}

func (r *reclaimer) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// kick asks for a pass over t.
func (r *reclaimer) kick(t *Topic) {
	if t.queued.Load() || !t.queued.CompareAndSwap(false, true) {
		return
	}
	r.mu.Lock()
	r.topics = append(r.topics, t)
	r.mu.Unlock()
	r.ring()
}

func (r *reclaimer) bury(t *Topic) {
	r.mu.Lock()
	r.dead = append(r.dead, t)
	r.mu.Unlock()
	r.ring()
}

func (r *reclaimer) buryChannel(ch *Channel) {
	r.mu.Lock()
	r.channels = append(r.channels, ch)
	r.mu.Unlock()
	r.ring()
}

func (r *reclaimer) run() {
	tick := time.NewTicker(reclaimTick)
	defer tick.Stop()
	pause := time.NewTimer(reclaimPause)
	defer pause.Stop()
	for {
		select {
		case <-r.quit:
			r.burials()
			return
		case <-tick.C:
			r.contained(r.ephemeral)
			r.contained(r.compactAll)
			r.b.st.TrimPool()
			if err := r.b.st.TurnDelays(r.b.toDisk(Now())); err != nil {
				r.b.opts.Warn("%v", err)
			}
			r.b.st.CheckSpace()
		case <-r.bell:
			pause.Reset(reclaimPause)
			select {
			case <-r.quit:
				r.burials()
				return
			case <-pause.C:
			}
		}
		r.mu.Lock()
		list := r.topics
		r.topics = nil
		r.mu.Unlock()
		for _, t := range list {
			t.queued.Store(false)
			r.contained(func() { r.pass(t) })
		}
		r.burials()
		if err := r.b.st.Compact(); err != nil {
			r.b.opts.Warn("%v", err)
		}
	}
}

// contained runs f; what goes wrong with mapped memory ends publishing, not the process.
func (r *reclaimer) contained(f func()) {
	err := r.b.st.Contain(func() error {
		f()
		return nil
	})
	if err != nil {
		r.b.opts.Warn("RECLAIM: %v", err)
	}
}

// ephemeral keeps the bound of ephemeral channels that nobody consumes.
func (r *reclaimer) ephemeral() {
	for _, t := range r.b.Topics() {
		for _, ch := range t.Channels() {
			if !ch.ephemeral {
				continue
			}
			if ch.overflowIdle() {
				r.kick(t)
			}
		}
	}
}

// overflowIdle tells whether anything is dropped.
func (ch *Channel) overflowIdle() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.ready.Load() == 0 { // else a claim is about to do it
		ch.overflow(ch.t.visible(streamMain), ch.t.b.opts.MemQueueSize)
	}
	return len(ch.skips) > 0
}

// pass moves the floors of t's channels and frees the segments that none of them needs.
func (r *reclaimer) pass(t *Topic) {
	if t.deleted.Load() {
		return
	}
	for _, s := range [2]mmapq.Stream{streamMain, streamDeferred} {
		// The end before the channels: a channel made meanwhile starts at or behind it.
		least := t.visible(s)
		var views []view
		for _, ch := range t.channelsLocked() {
			ch.raiseFloor(s)
			views = append(views, ch.view(s))
		}
		r.free(t, s, least, views)
		r.compactSome(t, s)
	}
}

// raiseFloor moves the floor of stream s over everything finished.
func (ch *Channel) raiseFloor(s mmapq.Stream) {
	l := ch.t.logs[s]
	floor, cursor, epoch := ch.overDropped(s)
	for floor < cursor {
		at, end := l.Next(floor, cursor)
		if at >= cursor {
			floor = cursor
			break
		}
		u := ch.states[s].Unfinished(at, end)
		if floor = u; u < end {
			break
		}
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.epoch.Load() == epoch && floor > ch.floor[s] {
		if mmapq.Mutant("floor-ahead") && floor < cursor {
			floor++
		}
		mmapq.AtPoint(mmapq.PointFloor)
		ch.floor[s] = floor
		ch.slot.SetFloor(s, floor)
	}
	if ch.grace() && !ch.gone.Load() {
		if err := ch.t.b.st.ReleaseState(ch.states[s], ch.floor[s]); err != nil {
			ch.t.b.opts.Warn("CHANNEL(%s): %v", ch.name, err)
		}
	}
}

// overDropped moves the cursor over what Empty of the topic dropped (a channel that nobody consumes does not come by) and returns where the
// channel stands.
func (ch *Channel) overDropped(s mmapq.Stream) (floor, cursor mmapq.Pos, epoch uint64) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if at, _ := ch.t.logs[s].Next(ch.cursor[s], ch.t.visible(s)); at > ch.cursor[s] && !ch.gone.Load() {
		ch.cursor[s] = at
		ch.slot.SetCursor(s, at)
	}
	return ch.floor[s], ch.cursor[s], ch.epoch.Load()
}

// burials gives back what deleted topics and channels used, as soon as nothing refers to it.
func (r *reclaimer) burials() {
	r.mu.Lock()
	channels, dead := r.channels, r.dead
	r.channels, r.dead = nil, nil
	r.mu.Unlock()
	var laterC []*Channel
	for _, ch := range channels {
		ch.mu.Lock()
		busy := len(ch.consumers) > 0
		ch.mu.Unlock()
		if busy {
			laterC = append(laterC, ch)
			continue
		}
		drop := func() error { return r.b.st.DropChannel(ch.slot, ch.states, ch.memory) }
		if err := r.b.st.Contain(drop); err != nil {
			r.b.opts.Warn("CHANNEL(%s): %v", ch.name, err)
		}
	}
	var laterT []*Topic
	for _, t := range dead {
		a, b := t.logs[0].Remove(), t.logs[1].Remove()
		if !a || !b {
			laterT = append(laterT, t)
		}
	}
	r.mu.Lock()
	r.channels = append(r.channels, laterC...)
	r.dead = append(r.dead, laterT...)
	r.mu.Unlock()
}
