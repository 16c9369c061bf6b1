package mmapq

// A segment that was sealed and synced in an earlier life is not read at start. Its entries are checked when a reader gets to them: what failed
// is damage from then on, like what a scan at start finds, and no reader ever sees its bytes.

// check returns the part of [p, end) that may be read, from p on and cut once maxBytes are passed; skipped tells that p itself is damaged and
// moved on. The caller reads s under the rules of Log.Run.
func (l *Log) check(s *Segment, p, end Pos, maxBytes int) (at, stop Pos, skipped bool) {
	first := s.index(p)
	n := first + uint32(end-p)
	known := s.checked.Load()
	i := min(max(first, known), n)
	for size := 0; i < n && size <= maxBytes && s.good(i); i++ {
		size += len(s.frame(i))
	}
	if i > first {
		for known < i && first <= known && !s.checked.CompareAndSwap(known, i) {
			known = s.checked.Load()
		}
		return p, p + Pos(i-first), false
	}
	for i < n && !s.good(i) {
		i++
	}
	stop = p + Pos(i-first)
	l.mu.Lock()
	at, _ = s.aroundDamage(p, stop)
	s.addDamage(p, stop)
	l.mu.Unlock()
	if at == p { // else another channel came first
		l.st.damaged.Add(int64(stop - p))
		l.st.warn("TOPIC(%s): %d messages from position %d on are damaged and left out (%s)", l.name, stop-p, p, slotName(s.slot.id))
	}
	return stop, end, true
}

// good tells whether entry i describes a whole and unchanged frame.
func (s *Segment) good(i uint32) bool {
	at := s.entryAt(i)
	return s.passes(i, getEntry(s.mem[at:]), headerSize, at)
}
