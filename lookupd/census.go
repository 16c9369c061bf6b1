package lookupd

import "time"

// Census is one topic in numbers, for watching.
type Census struct {
	Topic      string
	Channels   int
	Producers  int // that a lookup shows
	Tombstoned int // that a tombstone hides
}

// Peers is how many connections have identified themselves. Any goroutine.
func (r *Registry) Peers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.peers)
}

// Census counts every listed topic, by name. Any goroutine; it waits for nobody.
func (r *Registry) Census() []Census {
	now := time.Now().UnixNano()
	var list []Census
	for _, t := range r.all() {
		snap := t.now()
		if !snap.listed {
			continue
		}
		c := Census{Topic: t.name, Channels: len(snap.channels)}
		for _, p := range snap.producers {
			switch {
			case now < p.hiddenUntil(r.o.TombstoneLifetime):
				c.Tombstoned++
			case now <= p.peer.lastUpdate.Load()+int64(r.o.InactiveProducerTimeout):
				c.Producers++
			}
		}
		list = append(list, c)
	}
	return list
}

// Connections are open now, identified or not, and refused since start because there were too many. Any goroutine.
func (s *Server) Connections() (open int, refused uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.refused
}
