package fanout

import (
	"math/rand/v2"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

const (
	claimMax   = 1024      // messages of one run
	claimBytes = 256 << 10 // of one run, unless a single message is larger: a write costs much the same however long it is
	sideBytes  = 64 << 10  // of one claim of messages that were put back, which are copied
	minRunMax  = 64        // see share
	copyMax    = 16 << 10  // redelivered frames above this go out from the mapping, with a patched copy of their header
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

// begun is how many messages have their first byte among the first sent bytes of Head and Bytes. Where that cannot be told without waiting for
// the disk (the connection was slow, and the frames have left memory) it is all of them: then they only count as delivered.
func (r *Run) begun(sent int) (n int) {
	if len(r.lens) == 0 {
		n, ok := r.seg.Begun(sent)
		if !ok {
			return r.N
		}
		return n
	}
	for at := 0; n < r.N && at < sent; n++ {
		at += r.lens[n]
	}
	return n
}

// Scratch is one loop's buffer for frames that are not sent as they lie in the log. The zero value is ready.
type Scratch struct {
	buf []byte
}

// Claim takes messages for this consumer: at most its credit, 1,024 messages, about 256 KiB (or one message) and its fair share. They are in
// flight from now on; the caller only writes. false: nothing claimable (empty, paused, no credit).
func (c *Consumer) Claim(now int64, s *Scratch, run *Run) bool {
	credit := c.Credit()
	if credit == 0 {
		return false
	}
	run.Head, run.Bytes, run.N, run.Pinned = nil, nil, 0, false
	run.ids, run.lens = run.ids[:0], run.lens[:0]
	if !c.claimLocked(credit, now, s, run) {
		if c.dirtied {
			c.EndBatch() // sampling discarded everything
		}
		return false
	}
	c.messages += int64(run.N)
	if c.ch.latency != nil {
		c.stamp(run)
	}
	if run.Pinned && len(run.ids) == 0 {
		// First deliveries. The oldest of the run speaks for all: one look at memory that is about to be written anyway.
		c.ch.t.b.toDelivery.Add(now-mmapq.FrameTimestamp(run.Bytes), uint64(run.N))
	}
	return true
}

// claimLocked takes the channel's mutex. It is given back even if a read of the mapping faults: the loop contains such a panic, and a mutex left
// locked would stop every loop.
func (c *Consumer) claimLocked(credit int, now int64, s *Scratch, run *Run) bool {
	ch := c.ch
	c.StoreFins() // not under the lock
	ch.mu.Lock()
	defer ch.mu.Unlock()
	// Empty may have moved the epoch between Credit and the lock: what is claimed now is of the new one.
	c.Refresh()
	// Both looked at under the lock: a channel that is gone may lose its segments, a paused one delivers nothing after the answer.
	return !ch.gone.Load() && !ch.paused.Load() && c.claim(credit, now, s, run)
}

// share is how many messages one claim takes when avail are there: the fair part among all ready consumers, but not less than a short run
// while there is plenty, because a write costs about the same however short it is.
func (c *Consumer) share(credit int, avail int64) int {
	ready := int64(max(1, c.ch.ready.Load()))
	n := (avail + ready - 1) / ready
	if avail > 4*ready {
		n = max(n, min(minRunMax, max(1, c.rdy/16)))
	}
	return int(min(n, int64(credit), claimMax))
}

// claim takes what is next: messages put back whose turn has come, else a run from the cursor. Caller holds ch.mu.
func (c *Consumer) claim(credit int, now int64, s *Scratch, run *Run) bool {
	ch := c.ch
	limit := ch.t.visible(streamMain)
	if ch.ephemeral {
		ch.overflow(limit, ch.t.b.opts.MemQueueSize+int64(credit))
	}
	for !ch.fetching {
		ch.jumpSkips()
		switch {
		case ch.sideReady(limit):
			if c.claimSide(credit, limit, now, s, run) {
				return true
			}
		case ch.cursor[streamMain] < limit:
			if c.claimCursor(credit, limit, now, s, run) {
				return true
			}
		default:
			return false
		}
	}
	return false
}

// claimCursor takes a run from the main log; false when it only moved the cursor over what holds no message for this consumer. Caller holds
// ch.mu.
func (c *Consumer) claimCursor(credit int, limit mmapq.Pos, now int64, s *Scratch, run *Run) bool {
	ch := c.ch
	cursor := ch.cursor[streamMain]
	bound := ch.skipBound(limit)
	if ch.side.len() > 0 {
		bound = min(bound, ch.side.first().after)
	}
	r, next, cold := ch.t.logs[streamMain].RunWarm(cursor, bound, c.share(credit, int64(limit-cursor)), claimBytes, now)
	if cold {
		ch.fetch(streamMain, next, bound, now)
		return false
	}
	if r.N > 0 {
		ch.states[streamMain].Ensure(r.First, r.N)
	}
	ch.cursor[streamMain] = next
	ch.slot.SetCursor(streamMain, next)
	if r.N == 0 {
		return false
	}
	if c.sample > 0 {
		c.sampled(&r, now, s, run)
		return run.N > 0
	}
	run.seg, run.first, run.Bytes, run.N, run.Pinned = r, r.ID(), r.Bytes, r.N, true
	c.lease.addRun(r.ID(), r.N, now, now+c.timeout)
	return true
}

// discards draws whether this consumer's sample rate throws a message away, for the whole channel.
func (c *Consumer) discards() bool { return c.sample > 0 && rand.Int32N(100) > c.sample }

// sampled copies the messages of r that the draw keeps into scratch and finishes the others: they are discarded for the whole channel. Caller
// holds ch.mu; r is released.
func (c *Consumer) sampled(r *mmapq.Run, now int64, s *Scratch, run *Run) {
	s.buf = s.buf[:0]
	for i := range r.N {
		p := r.First + mmapq.Pos(i)
		if c.discards() {
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

// claimSide takes messages that were put back, each with its count of deliveries patched into a copy of its frame; false when none of those
// whose turn had come is still to be delivered. Caller holds ch.mu.
func (c *Consumer) claimSide(credit int, limit mmapq.Pos, now int64, s *Scratch, run *Run) bool {
	ch := c.ch
	s.buf = s.buf[:0]
	most := c.share(credit, int64(ch.side.len()))
	for run.N < most && ch.sideReady(limit) {
		k := ch.side.first().key
		r, _, cold := ch.t.logs[k.stream()].RunWarm(k.pos(), k.pos()+1, 1, sideBytes, now)
		if cold {
			ch.fetch(k.stream(), k.pos(), k.pos()+1, now)
			break
		}
		if r.N == 0 {
			ch.side.pop() // dropped by Empty of the topic, or damaged
			continue
		}
		if run.N > 0 && len(s.buf)+len(r.Bytes) > sideBytes {
			r.Release()
			break
		}
		ch.side.pop()
		if c.discards() {
			r.Release()
			ch.states[k.stream()].Ensure(k.pos(), 1)
			ch.states[k.stream()].Finish(k.pos())
			c.dirtied = true
			continue
		}
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
