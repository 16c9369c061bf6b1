package mmapq

import "sort"

// Run is a range of consecutive messages of one segment: one range of bytes that goes to a consumer as it is. The segment is pinned from
// Log.Run until Release.
type Run struct {
	seg   *Segment
	index uint32 // of the first message's entry
	First Pos
	N     int
	Bytes []byte
}

// ID returns the id of the first message of the run; the following ones count up.
func (r *Run) ID() uint64 { return r.seg.idBase + uint64(r.First-r.seg.base) }

// Frame returns the bytes of message i of the run.
func (r *Run) Frame(i int) []byte { return r.seg.frame(r.index + uint32(i)) }

// Begun tells how many messages of the run begin within its first sent bytes; false where finding out would need the disk.
func (r *Run) Begun(sent int) (n int, ok bool) {
	if sent = min(sent, len(r.Bytes)); sent <= 0 {
		return 0, true
	}
	from := cap(r.seg.mem) - cap(r.Bytes) // without a look at the entry
	if have := r.seg.slot.m.resident; have != nil && !have(from, min(sent+4, len(r.Bytes))) {
		return 0, false
	}
	for at := 0; at < sent; n++ {
		at += max(frameLen(r.Bytes[at:]), FrameHeader)
	}
	return n, true
}

// Due returns the due time (ms since 1970) of message i of a run of the deferred stream.
func (r *Run) Due(i int) int64 { return r.seg.entry(r.index + uint32(i)).due() }

// Release lets go of the segment.
func (r *Run) Release() {
	if r.seg != nil {
		r.seg.unpin()
		r.seg = nil
	}
}

// Run finds the longest run that starts at or behind p, ends at or before limit, has at most maxN messages and (unless it is one message)
// maxBytes bytes. next is where the reader goes on: behind the run, or behind what was skipped when nothing is left before limit (N is 0
// then and nothing is pinned). The caller makes sure that the position it asks for cannot be freed meanwhile (it is not below its channel's
// floor, and holds the channel's mutex).
func (l *Log) Run(p, limit Pos, maxN, maxBytes int) (r Run, next Pos) {
	r, next, _ = l.RunWarm(p, limit, maxN, maxBytes, noClock)
	return r, next
}

// RunWarm is Run for readers that must not wait for the disk; now is their clock in nanoseconds since 1970. cold: what is at next may not be in
// memory, Fetch brings it there.
func (l *Log) RunWarm(p, limit Pos, maxN, maxBytes int, now int64) (r Run, next Pos, cold bool) {
	for {
		s, at, end := l.seek(p, limit)
		if s == nil {
			return Run{}, max(p, limit), false
		}
		stop, warm := l.warmFor(s, at, end, limit, now)
		if !warm {
			return Run{}, at, true
		}
		p, end = at, min(end, stop, at+Pos(maxN))
		if s.unscanned {
			var skipped bool
			if p, end, skipped = l.check(s, p, end, maxBytes); skipped {
				continue
			}
		}
		i := s.index(p)
		n, from, to := s.span(i, uint32(end-p), maxBytes)
		s.pin()
		r = Run{seg: s, index: i, First: p, N: int(n), Bytes: s.mem[from:to]}
		r.mustBeWhole()
		return r, p + Pos(n), false
	}
}

// span returns how many of the n entries from i on make maxBytes at most (but one at least), and where their frames lie.
func (s *Segment) span(i, n uint32, maxBytes int) (fits, from, to uint32) {
	from = s.offset(i)
	end := func(k uint32) uint32 {
		at := s.offset(k)
		return at + uint32(frameLen(s.mem[at:]))
	}
	if to = end(i + n - 1); n == 1 || int(to-from) <= maxBytes {
		return n, from, to
	}
	// The k-th frame ends where the next one starts.
	fits = uint32(max(1, sort.Search(int(n)-1, func(k int) bool { return int(s.offset(i+uint32(k)+1)-from) > maxBytes })))
	return fits, from, end(i + fits - 1)
}

// aroundDamage cuts [p, end) at damaged entries; skipped tells that p itself was damaged and moved on.
func (l *Log) aroundDamage(s *Segment, p, end Pos) (at, stop Pos, skipped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, stop = s.aroundDamage(p, end)
	return at, stop, at != p
}

// skipDead moves p behind a range that was dropped.
func (l *Log) skipDead(p Pos) Pos {
	dead := l.dead.Load()
	if dead == nil {
		return p
	}
	for _, d := range *dead {
		if p >= d.from && p < d.to {
			p = d.to
		}
	}
	return p
}

// deadAfter returns the start of the first dropped range behind p.
func (l *Log) deadAfter(p Pos) (Pos, bool) {
	dead := l.dead.Load()
	if dead == nil {
		return 0, false
	}
	for _, d := range *dead {
		if d.from > p {
			return d.from, true
		}
	}
	return 0, false
}

// DeadBetween counts the entries of dropped or damaged ranges in [from, to), for depth.
func (l *Log) DeadBetween(from, to Pos) uint64 {
	n := uint64(0)
	if dead := l.dead.Load(); dead != nil {
		for _, d := range *dead {
			if a, b := max(d.from, from), min(d.to, to); a < b {
				n += l.count(a, b)
			}
		}
	}
	for _, s := range *l.segs.Load() {
		if s.hasDead.Load() {
			n += l.damagedIn(s, from, to)
		}
	}
	return n
}

// damagedIn counts the damaged entries of s in [from, to) that were not dropped.
func (l *Log) damagedIn(s *Segment, from, to Pos) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := Pos(0)
	for _, d := range s.damage {
		for at := l.skipDead(max(d.from, from)); at < min(d.to, to); {
			end := min(d.to, to)
			if stop, ok := l.deadAfter(at); ok {
				end = min(end, stop)
			}
			n += end - at
			at = l.skipDead(end)
		}
	}
	return uint64(n)
}

// Next returns the first position at or behind p that holds a message, or limit: it jumps gaps between segments, dropped and damaged ranges.
// end is how far messages follow without a gap. Used to walk a channel's state.
func (l *Log) Next(p, limit Pos) (at, end Pos) {
	if s, at, end := l.seek(p, limit); s != nil {
		return at, end
	}
	return limit, limit
}

// seek is Next that also returns the segment; nil when there is nothing left before limit.
func (l *Log) seek(p, limit Pos) (s *Segment, at, end Pos) {
	for {
		p = l.skipDead(p)
		s := l.find(p)
		if s == nil {
			return nil, 0, 0
		}
		if p = max(p, s.base); p >= limit {
			return nil, 0, 0
		}
		if l.skipDead(p) != p {
			continue // what was dropped begins in front of this segment, where another one was
		}
		end := limit
		if s.sealed.Load() {
			if p >= s.end() {
				return nil, 0, 0 // behind the last segment: nothing was committed here
			}
			end = min(end, s.end())
		}
		if s.table != nil {
			at, stop := s.stretch(p)
			if at != p {
				p = at // dropped by now, or behind this segment
				continue
			}
			end = min(end, stop)
		}
		if stop, ok := l.deadAfter(p); ok {
			end = min(end, stop)
		}
		if s.hasDead.Load() {
			var skipped bool
			if p, end, skipped = l.aroundDamage(s, p, end); skipped {
				continue
			}
		}
		return s, p, end
	}
}
