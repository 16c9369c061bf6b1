package compat

import (
	"sync"
	"testing"
	"time"
)

const (
	standstillTick = 20 * time.Millisecond
	// standstillMin is the shortest pause of the whole process that may have
	// broken a bound of a script; the bounds leave room for shorter ones.
	standstillMin = 200 * time.Millisecond
	// replaysMax is how often a conversation that such a pause fell into is
	// played again before its failure counts.
	replaysMax = 4
	// resetReplaysMax is the same for a conversation with a reset in it: TCP
	// allows a reset to overtake what was sent before, and on a busy loopback
	// device it does, once in thousands of conversations.
	resetReplaysMax = 2
)

// A standstill watches for moments in which the test process got no processor.
// What a script says about time is void if one fell into its play: the
// conversation is played again, and only then.
type standstill struct {
	mu   sync.Mutex
	gaps []gap // guarded by mu, in order of their end
}

type gap struct {
	end    time.Time
	length time.Duration
}

func watchStandstill(t *testing.T) *standstill {
	t.Helper()
	s := &standstill{}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go s.watch(stop, stopped)
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	return s
}

func (s *standstill) watch(stop, stopped chan struct{}) {
	defer close(stopped)
	ticker := time.NewTicker(standstillTick)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		now := time.Now()
		if length := now.Sub(last) - standstillTick; length >= standstillMin {
			s.mu.Lock()
			s.gaps = append(s.gaps, gap{now, length})
			s.mu.Unlock()
		}
		last = now
	}
}

// longestSince is the longest pause that ended after the given time.
func (s *standstill) longestSince(start time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, g := range s.gaps {
		if g.end.After(start) {
			longest = max(longest, g.length)
		}
	}
	return longest
}

// excuse tells why a failed play proves nothing, or nothing itself.
func (s *standstill) excuse(p *player, replay int) string {
	pause := s.longestSince(p.started)
	switch {
	case p.conv.timed() && pause > 0 && replay < replaysMax:
		return "this process stood still for " + pause.String()
	case p.sawReset() && replay < resetReplaysMax:
		return "the reset may have overtaken frames"
	}
	return ""
}
