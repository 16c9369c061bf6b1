package loop

// Delivery happens after the batch that made it possible: the channels to look at are collected (deliverLater) and
// served at the end of the turn. What a publish made possible comes as a letter, even to its own loop, and so after all
// sockets that were readable: with 16 to 64 publishers waiting for their OKs that takes a third less CPU than delivering
// at the end of each read, and with one publisher no more. Each claim gives a run of messages to one consumer, and each
// run is one system call, which is why the channel decides how long runs are.

// Bounds of how long deliveries may keep their loop from reading, all channels together: fifty consumers that come for a
// backlog at the same moment have socket buffers of megabytes each to fill.
const (
	deliverTurn = 1 << 20  // bytes
	runCost     = 16 << 10 // a run counts at least as much
)

// deliverLater has the channel served at the end of this turn.
func (l *loop) deliverLater(s *subscribers) {
	if !s.dirty {
		s.dirty = true
		l.dirty = append(l.dirty, s)
	}
}

// deliver serves the channels that were put on the list, as far as the turn goes; the rest comes first in the next one.
func (l *loop) deliver() {
	l.deliverLeft = deliverTurn
	var last *subscribers
	for i := 0; i < len(l.dirty); i++ {
		s := l.dirty[i]
		s.dirty = false
		if l.deliverLeft <= 0 {
			l.unfinished = append(l.unfinished, s)
		} else if l.pump(s) {
			last = s
		}
	}
	if last != nil {
		l.unfinished = append(l.unfinished, last)
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
	if len(l.unfinished) > 0 {
		l.yield()
	}
}

// pump hands messages of one channel to its ready consumers in turn, until there are none of either, or until the turn
// is over, which it reports: then there may be more.
func (l *loop) pump(s *subscribers) (over bool) {
	defer l.containPump(s)
	for l.deliverLeft > 0 {
		c := s.ready.first
		if c == nil {
			return false
		}
		l.culprit = c
		l.deliverLeft -= runCost
		if !c.cons.Claim(l.now, &l.scratch, &l.run) {
			if c.sampleRate > 0 { // it may have discarded all there was
				c.cons.EndBatch()
			}
			if c.cons.Credit() <= 0 {
				c.updateReady()
				continue
			}
			if !s.ch.Park(l.idx) {
				return false
			}
			continue // something came in between
		}
		s.ready.rotate()
		l.deliverLeft -= max(0, len(l.run.Head)+len(l.run.Bytes)-runCost)
		c.sendRun(&l.run)
		c.cons.EndBatch()
		if c.dead {
			l.closeConn(c)
			continue
		}
		c.updateReady()
		c.armTimer()
	}
	return s.ready.first != nil
}

// containPump is contain for pump: whatever happened, the consumers that are left must be served.
func (l *loop) containPump(s *subscribers) {
	if r := recover(); r != nil {
		l.panicked(r)
		l.unfinished = append(l.unfinished, s)
	}
}
