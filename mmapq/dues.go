package mmapq

// EachDue calls f with up to maxN messages of the deferred stream from p on, before limit, and their due times (ms since 1970). It returns where
// the reader goes on. Only entries are read, never bodies: a start with millions of waiting messages must not read them all. A body is checked
// when its message is delivered. The caller holds what Log.Run asks for.
func (l *Log) EachDue(p, limit Pos, maxN int, f func(p Pos, due int64)) (next Pos) {
	s, at, end := l.seek(p, limit)
	if s == nil {
		return max(p, limit)
	}
	end = min(end, at+Pos(maxN))
	i := s.index(at)
	for p := at; p < end; p++ {
		f(p, s.entry(i).due())
		i++
	}
	return end
}

// DuesHot tells whether EachDue finds at most n messages from p to limit, all of them appended so lately that their entries are in memory. The
// caller holds what Log.Run asks for.
func (l *Log) DuesHot(p, limit Pos, n int, now int64) bool {
	s, at, _ := l.seek(p, limit)
	return s == nil || limit-at <= Pos(n) && (s.slot.m.resident == nil || s.heat.holds(s.index(at), now))
}
