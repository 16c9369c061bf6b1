package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// skipRange is a range of the main log that an ephemeral channel drops: its n messages arrived while --mem-queue-size others were waiting.
// The ranges of a channel ascend and lie at or behind its cursor.
type skipRange struct {
	from, to mmapq.Pos
	n        int64
}

// overflow applies the bound of an ephemeral channel: what waits up to bound stays, the newest above it is dropped. It runs at claims (with
// the claimer's credit added: who has credit is waiting at that moment, also when --mem-queue-size is 0) and once a second where nobody is
// ready, not at publishes, so up to that moment more may wait. Caller holds ch.mu.
func (ch *Channel) overflow(limit mmapq.Pos, bound int64) {
	ch.jumpSkips()
	excess := ch.waiting(limit) - bound
	if excess <= 0 {
		return
	}
	lowest := ch.cursor[streamMain]
	last := len(ch.skips) - 1
	if last >= 0 {
		lowest = ch.skips[last].to
	}
	l := ch.t.logs[streamMain]
	from, n := limit, int64(0)
	for n < excess && from > lowest {
		from -= min(mmapq.Pos(excess-n), from-lowest)
		n = between(l, from, limit)
	}
	if last >= 0 && ch.skips[last].to == from {
		ch.skips[last].to = limit
		ch.skips[last].n += n
	} else {
		ch.skips = append(ch.skips, skipRange{from, limit, n})
	}
}

// waiting counts what lies between cursor and limit and is not dropped. Caller holds ch.mu and has called jumpSkips.
func (ch *Channel) waiting(limit mmapq.Pos) int64 {
	n := between(ch.t.logs[streamMain], ch.cursor[streamMain], limit)
	for _, s := range ch.skips {
		n -= s.n
	}
	return max(0, n)
}

// jumpSkips moves the cursor over dropped ranges that it has reached: their messages count as finished. Caller holds ch.mu.
func (ch *Channel) jumpSkips() {
	for len(ch.skips) > 0 && ch.cursor[streamMain] >= ch.skips[0].from {
		s := ch.skips[0]
		ch.skips = ch.skips[1:]
		l := ch.t.logs[streamMain]
		for p := max(s.from, ch.cursor[streamMain]); p < s.to; {
			at, end := l.Next(p, s.to) // what was freed already is jumped
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
	}
}

// skipBound cuts limit at the first dropped range. Caller holds ch.mu.
func (ch *Channel) skipBound(limit mmapq.Pos) mmapq.Pos {
	if len(ch.skips) > 0 {
		return min(limit, ch.skips[0].from)
	}
	return limit
}
