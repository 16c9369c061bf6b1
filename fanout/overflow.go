package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// skipRange is a range of the main log that an ephemeral channel drops: it arrived while --mem-queue-size messages were waiting.
type skipRange struct{ from, to mmapq.Pos }

// overflow applies the bound of an ephemeral channel: what waits up to the bound stays, the newest above it is dropped. It runs at claims and
// once a second, not at publishes, so up to that moment more may wait. Caller holds ch.mu.
func (ch *Channel) overflow(limit mmapq.Pos) {
	if excess := ch.waiting(limit) - ch.t.b.opts.MemQueueSize; excess > 0 {
		from := limit - mmapq.Pos(excess)
		if n := len(ch.skips); n > 0 && ch.skips[n-1].to == from {
			ch.skips[n-1].to = limit
		} else {
			ch.skips = append(ch.skips, skipRange{from, limit})
		}
	}
}

// waiting counts what lies between cursor and limit and is not dropped. Caller holds ch.mu.
func (ch *Channel) waiting(limit mmapq.Pos) int64 {
	cursor := ch.cursor[streamMain]
	if limit <= cursor {
		return 0
	}
	l := ch.t.logs[streamMain]
	n := int64(l.Ordinal(limit)-l.Ordinal(cursor)) - int64(l.DeadBetween(cursor, limit))
	for _, s := range ch.skips {
		n -= int64(s.to - max(s.from, cursor))
	}
	return max(0, n)
}

// jumpSkip moves the cursor over a dropped range that it has reached: its messages count as finished. Caller holds ch.mu.
func (ch *Channel) jumpSkip() bool {
	if len(ch.skips) == 0 || ch.cursor[streamMain] < ch.skips[0].from {
		return false
	}
	s := ch.skips[0]
	ch.skips = ch.skips[1:]
	l := ch.t.logs[streamMain]
	for p := max(s.from, ch.cursor[streamMain]); p < s.to; {
		at, end := l.Next(p, s.to)
		for at < end {
			n := min(end-at, 1<<12)
			ch.states[streamMain].Ensure(at, int(n))
			for i := range n {
				ch.states[streamMain].Finish(at + i)
			}
			at += n
		}
		p = max(end, p+1)
	}
	ch.cursor[streamMain] = max(ch.cursor[streamMain], s.to)
	return true
}

// skipBound cuts limit at the first dropped range. Caller holds ch.mu.
func (ch *Channel) skipBound(limit mmapq.Pos) mmapq.Pos {
	if len(ch.skips) > 0 {
		return min(limit, ch.skips[0].from)
	}
	return limit
}

// needs tells whether any message of [from, to) of stream s may still be read by this channel. floor and skips are a copy made under ch.mu.
func needs(floor mmapq.Pos, skips []skipRange, from, to mmapq.Pos) bool {
	if to <= floor {
		return false
	}
	for _, s := range skips {
		if from >= s.from && to <= s.to {
			return false
		}
	}
	return true
}
