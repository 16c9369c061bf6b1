package fanout

import (
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// What one message that is not finished for long keeps is its own segment, not the log behind it: a segment is freed when no channel needs any
// message of it, wherever the floors are. And when many segments are kept by few messages each, what is left of them is copied together into
// one (mmapq/compact.go); the messages keep their positions, so leases, states, side queues and due heaps do not notice. The same takes care of
// deferred messages: one that waits for an hour does not keep those that waited for a second.

// keepLimits say when what is kept is worth copying.
type keepLimits struct {
	little     int           // bytes kept behind every cursor that nobody looks at
	gain       int           // bytes that a compaction must free
	ripe       time.Duration // a segment that consumers are about to finish is not copied
	much       int           // from so many bytes on
	ripeSooner time.Duration // this goes instead
}

var keepDefaults = keepLimits{little: 4 << 20, gain: 1 << 20, ripe: 5 * time.Second, much: 256 << 20, ripeSooner: 200 * time.Millisecond}

// compactPause is how long a topic is left alone after a round that found nothing worth it; it doubles up to compactPauseMost.
const (
	compactPause     = time.Second
	compactPauseMost = 30 * time.Second
)

// keeper is one message that some channel still needs, and so the reason why its segment stays. Owned by the reclaimer.
type keeper struct {
	ch    *Channel
	pos   mmapq.Pos
	since int64 // Now() when the segment was first kept behind every cursor; 0: a cursor has not passed it
}

// kept is what the reclaimer knows of one log.
type kept struct {
	by    map[mmapq.Pos]keeper // by base of the segment
	bytes int                  // of the segments behind every cursor that are kept
	next  int64                // no compaction before, unless much more is kept by then than
	tried int                  // when there was nothing worth it
	pause time.Duration
}

// view is where a channel stands in one stream, as one moment's copy.
type view struct {
	ch            *Channel
	floor, cursor mmapq.Pos
	skips         []skipRange
}

func (ch *Channel) view(s mmapq.Stream) view {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	v := view{ch: ch, floor: ch.floor[s], cursor: ch.cursor[s]}
	if s == streamMain {
		v.skips = slices.Clone(ch.skips)
	}
	return v
}

// needs returns a message of [from, to) that the channel may still read.
func (v *view) needs(l *mmapq.Log, s mmapq.Stream, from, to mmapq.Pos) (p mmapq.Pos, ok bool) {
	if to <= v.floor {
		return 0, false
	}
	if to > v.cursor {
		for _, skip := range v.skips {
			if from >= skip.from && to <= skip.to {
				return 0, false
			}
		}
		return to - 1, true
	}
	v.each(l, s, from, to, func(at mmapq.Pos) bool {
		p, ok = at, true
		return false
	})
	return p, ok
}

// each calls f with the unfinished messages of [from, to), which ends at or below the cursor, until f returns false.
func (v *view) each(l *mmapq.Log, s mmapq.Stream, from, to mmapq.Pos, f func(mmapq.Pos) bool) {
	for p := max(from, v.floor); p < to; {
		at, end := l.Next(p, to)
		for at < end {
			if at = v.ch.states[s].Unfinished(at, end); at < end {
				if !f(at) {
					return
				}
				at++
			}
		}
		p = max(end, p+1)
	}
}

// stillNeeded tells whether the message that was found to keep a segment still does.
func (k keeper) stillNeeded(v *view, s mmapq.Stream) bool {
	return k.pos >= v.floor && k.pos < v.cursor && v.ch.states[s].Get(k.pos) != mmapq.Finished
}

// free frees every segment of stream s that no channel needs, and remembers why the others stay. least is where visibility ended before views
// was made: a channel made meanwhile starts at or behind it.
func (r *reclaimer) free(t *Topic, s mmapq.Stream, least mmapq.Pos, views []view) {
	l, k := t.logs[s], &t.kept[s]
	now := Now()
	for i := range views {
		if len(views[i].skips) == 0 {
			least = min(least, views[i].cursor) // what lies behind is needed by that channel
		}
	}
	by := make(map[mmapq.Pos]keeper, len(k.by))
	free := map[mmapq.Pos]bool{}
	k.bytes = 0
	l.EachSealed(func(from, to mmapq.Pos, size int) bool {
		if to > least {
			return false
		}
		was, known := k.by[from]
		found := false
		for i := range views {
			v := &views[i]
			if known && was.ch == v.ch && was.stillNeeded(v, s) {
				found = true
				break
			}
		}
		for i := 0; i < len(views) && !found; i++ {
			if was.pos, found = views[i].needs(l, s, from, to); found {
				was.ch = views[i].ch
			}
		}
		if !found {
			free[from] = true
			return true
		}
		if passed := !slices.ContainsFunc(views, func(v view) bool { return v.cursor < to }); !passed {
			was.since = 0
		} else {
			if k.bytes += size; was.since == 0 {
				was.since = now
			}
		}
		by[from] = was
		return true
	})
	k.by = by
	if len(free) == 0 {
		return
	}
	l.Truncate(func(from, to mmapq.Pos) bool { return to > least || !free[from] })
	if len(by) > 0 {
		for i := range views {
			views[i].ch.releaseHoles(s)
		}
	}
}

// releaseHoles gives back the state of messages whose segments are gone, above a floor that stays.
func (ch *Channel) releaseHoles(s mmapq.Stream) {
	ch.mu.Lock()
	var finish func() error
	if ch.grace() && !ch.gone.Load() {
		finish = ch.t.b.st.ReleaseStateHoles(ch.states[s], ch.t.logs[s], ch.cursor[s])
	}
	ch.mu.Unlock()
	if finish == nil {
		return
	}
	if err := finish(); err != nil {
		ch.t.b.opts.Warn("CHANNEL(%s): %v", ch.name, err)
	}
}

// live tells Compact what is still needed. Owned by the reclaimer.
type live struct {
	t      *Topic
	stream mmapq.Stream
	views  []view
	before int64 // segments kept since then are ripe
	bits   [liveStep / 64]uint64
}

const liveStep = 4096

// Ripe implements mmapq.Live.
func (v *live) Ripe(base mmapq.Pos) bool {
	k, ok := v.t.kept[v.stream].by[base]
	return ok && k.since != 0 && k.since <= v.before
}

// Each implements mmapq.Live: the union of what the channels need, a stretch at a time.
func (v *live) Each(from, to mmapq.Pos, f func(mmapq.Pos) bool) {
	l := v.t.logs[v.stream]
	for ; from < to; from += liveStep {
		end := min(from+liveStep, to)
		clear(v.bits[:])
		for i := range v.views {
			v.views[i].each(l, v.stream, from, end, func(p mmapq.Pos) bool {
				v.bits[(p-from)/64] |= 1 << ((p - from) % 64)
				return true
			})
		}
		for i := range end - from {
			if v.bits[i/64]&(1<<(i%64)) != 0 && !f(from+i) {
				return
			}
		}
	}
}

// compactAll looks at topics of which much is kept behind every cursor; about once a second, since what is kept may ripen without a pass.
func (r *reclaimer) compactAll() {
	for _, t := range r.b.Topics() {
		for s := range t.kept {
			r.compactSome(t, mmapq.Stream(s))
		}
	}
}

// compactSome looks at one log, if it is time.
func (r *reclaimer) compactSome(t *Topic, s mmapq.Stream) {
	now, k := Now(), &t.kept[s]
	if k.bytes >= r.b.keep.little && (now >= k.next || k.bytes > k.tried+r.b.keep.much/4) && !t.deleted.Load() {
		r.compact(t, s, now)
	}
}

// compact copies together what few messages keep, one group of segments at a time; the topic's next pass frees what that makes free.
func (r *reclaimer) compact(t *Topic, s mmapq.Stream, now int64) {
	k := &t.kept[s]
	limit := t.visible(s)
	v := &live{t: t, stream: s, before: now - int64(r.b.keep.ripe)}
	if k.bytes > r.b.keep.much {
		v.before = now - int64(r.b.keep.ripeSooner)
	}
	for _, ch := range t.channelsLocked() {
		v.views = append(v.views, ch.view(s))
		limit = min(limit, v.views[len(v.views)-1].cursor)
	}
	done, err := t.logs[s].Compact(limit, r.b.keep.gain, v)
	if err != nil {
		t.b.opts.Warn("TOPIC(%s): segments that few messages keep are not freed: %v", t.name, err)
	}
	if !done {
		k.pause = min(max(2*k.pause, compactPause), compactPauseMost)
		k.next, k.tried = now+int64(k.pause), k.bytes
		return
	}
	k.pause, k.next, k.tried = 0, now, 0
	// Whoever looked a segment up before the exchange has pinned it when these locks were had.
	for i := range v.views {
		v.views[i].ch.mu.Lock()
		v.views[i].ch.mu.Unlock() //nolint:staticcheck // a barrier
	}
	t.logs[s].FreeReplaced()
	r.kick(t)
}

// channelsLocked is Channels for the reclaimer: no channel is half inserted when it returns.
func (t *Topic) channelsLocked() []*Channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.list.Load()
}
