package fanout

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

const (
	claimBytes = 64 << 10 // of one run, unless a single message is larger
	minRunMax  = 64       // see share
	copyMax    = 16 << 10 // redelivered frames above this go out from the mapping, with a patched copy of their header
)

// Run is what one Claim gives to write: Head (may be empty), then Bytes. Head and, if not Pinned, Bytes lie in scratch memory that the next
// Claim with the same Scratch reuses. If Pinned, Bytes are mapped frames that stay valid until Release.
type Run struct {
	Head   []byte
	Bytes  []byte
	N      int
	Pinned bool

	seg   mmapq.Run
	first uint64 // id of the first message of a run from the cursor
	ids   []uint64
	lens  []int
}

// Release lets go of the mapping. Exactly once per successful Claim, after everything is written or the connection is closed.
func (r *Run) Release() {
	r.seg.Release()
	r.Head, r.Bytes, r.N, r.Pinned = nil, nil, 0, false
}

func (r *Run) id(i int) uint64 {
	if len(r.ids) > 0 {
		return r.ids[i]
	}
	return r.first + uint64(i)
}

func (r *Run) frameLen(i int) int {
	if len(r.lens) > 0 {
		return r.lens[i]
	}
	return len(r.seg.Frame(i))
}

// Scratch is one loop's buffer for frames that are not sent as they lie in the log. The zero value is ready.
type Scratch struct {
	buf []byte
}

// Claim takes messages for this consumer: at most its credit, 256 messages, about 64 KiB (or one message) and its fair share. They are in
// flight from now on; the caller only writes. false: nothing claimable (empty, paused, no credit).
func (c *Consumer) Claim(now int64, s *Scratch, run *Run) bool {
	credit := c.Credit()
	if credit == 0 || c.ch.gone.Load() {
		return false
	}
	ch := c.ch
	run.Head, run.Bytes, run.N, run.Pinned = nil, nil, 0, false
	run.ids, run.lens = run.ids[:0], run.lens[:0]
	ch.mu.Lock()
	// Empty may have moved the epoch between Credit and the lock: what is claimed now is of the new one.
	c.Refresh()
	ok := false
	if ch.side.ready(ch.cursor[streamMain]) {
		ok = c.claimSide(credit, now, s, run)
	}
	if !ok {
		ok = c.claimCursor(credit, now, s, run)
	}
	ch.mu.Unlock()
	if !ok {
		return false
	}
	c.messages += int64(run.N)
	return true
}

// share is how many messages one claim takes when avail are there: the fair part among all ready consumers, but not less than a short run
// while there is plenty, because a write costs about the same however short it is.
func (c *Consumer) share(credit int, avail int64) int {
	ready := int64(max(1, c.ch.ready.Load()))
	n := (avail + ready - 1) / ready
	if avail > 4*ready {
		n = max(n, min(minRunMax, max(1, c.rdy/16)))
	}
	return int(min(n, int64(credit), runMax))
}

// claimCursor takes a run from the main log. Caller holds ch.mu.
func (c *Consumer) claimCursor(credit int, now int64, s *Scratch, run *Run) bool {
	ch := c.ch
	limit := ch.t.visible(streamMain)
	for ch.cursor[streamMain] < limit {
		cursor := ch.cursor[streamMain]
		if ch.memory {
			ch.overflow(limit)
			if ch.jumpSkip() {
				continue
			}
		}
		bound := ch.skipBound(limit)
		if ch.side.len() > 0 {
			bound = min(bound, max(ch.side.first().after, cursor+1))
		}
		r, next := ch.t.logs[streamMain].Run(cursor, bound, c.share(credit, int64(limit-cursor)), claimBytes)
		if r.N > 0 {
			ch.states[streamMain].Ensure(r.First, r.N)
		}
		ch.cursor[streamMain] = next
		ch.slot.SetCursor(streamMain, next)
		if r.N == 0 {
			if ch.side.ready(next) {
				return c.claimSide(credit, now, s, run)
			}
			continue
		}
		if c.sample > 0 {
			if c.sampled(&r, now, s, run); run.N == 0 {
				continue
			}
			return true
		}
		run.seg, run.first, run.Bytes, run.N, run.Pinned = r, r.ID(), r.Bytes, r.N, true
		c.lease.addRun(r.ID(), r.N, now, now+c.timeout)
		return true
	}
	return false
}

// sampled copies the messages of r that the draw keeps into scratch and finishes the others: they are discarded for the whole channel. Caller
// holds ch.mu; r is released.
func (c *Consumer) sampled(r *mmapq.Run, now int64, s *Scratch, run *Run) {
	s.buf = s.buf[:0]
	for i := range r.N {
		p := r.First + mmapq.Pos(i)
		if rand.Int32N(100) > c.sample {
			c.ch.states[streamMain].Finish(p)
			c.dirtied = true
			continue
		}
		f := r.Frame(i)
		s.buf = append(s.buf, f...)
		run.ids = append(run.ids, r.ID()+uint64(i))
		run.lens = append(run.lens, len(f))
		c.lease.addExc(r.ID()+uint64(i), now, now+c.timeout)
	}
	run.Bytes, run.N = s.buf, len(run.ids)
	r.Release()
}

// claimSide takes messages that were put back, each with its count of deliveries patched into a copy of its frame. Caller holds ch.mu.
func (c *Consumer) claimSide(credit int, now int64, s *Scratch, run *Run) bool {
	ch := c.ch
	s.buf = s.buf[:0]
	most := c.share(credit, int64(ch.side.len()))
	for run.N < most && ch.side.ready(ch.cursor[streamMain]) {
		k := ch.side.first().key
		r, _ := ch.t.logs[k.stream()].Run(k.pos(), k.pos()+1, 1, claimBytes)
		if r.N == 0 {
			ch.side.pop() // dropped by Empty of the topic, or damaged
			continue
		}
		if run.N > 0 && len(s.buf)+len(r.Bytes) > claimBytes {
			r.Release()
			break
		}
		ch.side.pop()
		attempts, ok := ch.countDelivery(k)
		if !ok {
			r.Release() // finished meanwhile
			continue
		}
		run.N++
		run.ids = append(run.ids, r.ID())
		run.lens = append(run.lens, len(r.Bytes))
		c.lease.addExc(r.ID(), now, now+c.timeout)
		if run.N == 1 && len(r.Bytes) > copyMax {
			s.buf = append(s.buf, r.Bytes[:codec.MessageHeader]...)
			mmapq.PutAttempts(s.buf, attempts)
			run.Head, run.Bytes, run.seg, run.Pinned = s.buf, r.Bytes[codec.MessageHeader:], r, true
			return true
		}
		at := len(s.buf)
		s.buf = append(s.buf, r.Bytes...)
		mmapq.PutAttempts(s.buf[at:], attempts)
		r.Release()
	}
	run.Bytes = s.buf
	return run.N > 0
}

// countDelivery stores the number of this delivery before it is written and returns it. The first delivery of a message of the main log needs
// no store: its position is below the cursor. Caller holds ch.mu.
func (ch *Channel) countDelivery(k sideKey) (uint16, bool) {
	st := ch.states[k.stream()]
	st.Ensure(k.pos(), 1)
	was := st.Get(k.pos())
	if was == mmapq.Finished {
		return 0, false
	}
	n := min(max(was, 1)+1, mmapq.AttemptsMax)
	if k.fresh() {
		n = max(was, 1)
	}
	if n == 1 && k.stream() == streamMain {
		return 1, true
	}
	return n, st.SetAttempts(k.pos(), n)
}

// attemptsOf reads the attempts of a frame, for tests.
func attemptsOf(frame []byte) uint16 { return binary.BigEndian.Uint16(frame[16:]) }
