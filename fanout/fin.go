package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// finRange are FINs of neighbouring messages that are not in the state yet: clients that finish in order cost one store for four of them. They
// left the lease, so that nobody else writes their states, and get there before any answer to what followed them leaves, and before the batch
// ends. Owned by the consumer's loop.
type finRange struct {
	stream   mmapq.Stream
	from, to mmapq.Pos
}

// addFin notes that id is finished.
func (c *Consumer) addFin(id uint64) {
	s, p, _ := mmapq.SplitID(id)
	f := &c.fins
	switch {
	case f.from == f.to:
	case s == f.stream && p == f.to:
		f.to++
		return
	case s == f.stream && p+1 == f.from:
		f.from--
		return
	default:
		c.StoreFins()
	}
	*f = finRange{s, p, p + 1}
}

// StoreFins stores the FINs that are still on their way into the state. The loop calls it before it answers anything behind them. The channel's
// mutex must not be held.
func (c *Consumer) StoreFins() {
	f := &c.fins
	if f.from < f.to {
		c.ch.finish(f.stream, f.from, f.to)
		f.from = f.to
	}
}

// finish stores that [from, to), which the caller took out of its lease, needs no further delivery.
func (ch *Channel) finish(s mmapq.Stream, from, to mmapq.Pos) {
	for from < to {
		if from = ch.states[s].FinishRange(from, to); from == to {
			return
		}
		// No word for it: its window was never made usable (a message of the deferred stream that nobody has delivered yet cannot get here, but a
		// claim without disk space can).
		ch.mu.Lock()
		ch.states[s].Ensure(from, 1)
		ch.mu.Unlock()
	}
}
