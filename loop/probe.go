package loop

import (
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
)

const (
	probeEvery = 100 * time.Millisecond
	probeFor   = 5 * time.Minute // after the last one who wanted to know
)

// probes measure how long loops take to answer: a stall of any kind (a disk that a loop waits for, a turn that takes too long) shows as an
// answer that is late by that long. Nobody is asked, and no timer runs, until somebody wants to know.
type probes struct {
	mu     sync.Mutex
	until  time.Time // when the goroutine ends
	active bool
	wg     sync.WaitGroup

	answers fanout.Durations
}

// AnswerTimes returns how long the loops took to answer since the server started, asked ten times a second for five minutes after each call
// of this method: the first call only begins it.
func (s *Server) AnswerTimes() fanout.DurationCounts {
	p := &s.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(probeFor)
	if !p.active {
		select {
		case <-s.stopping:
		default:
			p.active = true
			p.wg.Go(s.probe)
		}
	}
	return p.answers.Load()
}

func (s *Server) probe() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stopping:
			return
		case now := <-tick.C:
			p := &s.probes
			p.mu.Lock()
			if p.active = now.Before(p.until); !p.active {
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
		}
		for _, l := range s.loops {
			// One that has not answered yet is not asked again: its answer will tell the whole time.
			if l.probedAt.CompareAndSwap(0, fanout.Now()) {
				l.mail.raise(flagProbe)
			}
		}
	}
}

// answerProbe runs on the loop.
func (l *loop) answerProbe() {
	if at := l.probedAt.Swap(0); at != 0 {
		l.srv.probes.answers.Add(fanout.Now()-at, 1)
	}
}
