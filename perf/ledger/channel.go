package ledger

import (
	"bytes"
	"sync"
	"time"
)

// Channel is the book of one channel.
type Channel struct {
	name   string
	ledger *Ledger

	mu        sync.Mutex
	slots     []chunks[slot] // by producer, then counter
	events    [classCount]int64
	causes    [causeCount]int64
	lateReads int64
	offenders []Offender
	scratch   []byte
}

// slot is what happened to one message in one channel. Everything but seen describes the delivery with the highest attempts of the
// epoch.
type slot struct {
	at       uint32 // when it was delivered
	due      uint32 // stateRequeued and stateRequeuedSure: not before
	epoch    uint16
	attempts uint16
	seen     uint8 // deliveries read, saturating
	state    state
}

type state uint8

const (
	stateNever        state = iota // not delivered yet
	stateHeld                      // delivered, not answered
	stateFinSent                   // FIN is on its way
	stateFinished                  // FIN processed: an answer to a later command of the connection was seen
	stateRequeued                  // REQ is on its way
	stateRequeuedSure              // REQ processed
	stateDropped                   // its connection closed: it must come again
	stateDroppedFin                // its connection closed after FIN was sent: it may come again
)

var stateNames = [...]string{
	stateNever: "never", stateHeld: "held", stateFinSent: "fin-sent", stateFinished: "finished", stateRequeued: "requeued",
	stateRequeuedSure: "requeued-sure", stateDropped: "dropped", stateDroppedFin: "dropped-fin",
}

func (s state) String() string { return stateNames[s] }

// open tells whether the broker still owes the message.
func (s state) open() bool {
	switch s {
	case stateFinSent, stateFinished, stateDroppedFin:
		return false
	}
	return true
}

// Delivery is the receipt for one message frame; answers refer to it.
type Delivery struct {
	Key      Key
	attempts uint16
	epoch    uint16
	void     bool // nothing the ledger will judge answers of
}

// Delivered enters a message frame. The receipt is void if the body is none of this run, which the ledger has noted.
func (c *Channel) Delivered(body []byte, attempts uint16) Delivery {
	l := c.ledger
	key, ok := l.config.Bodies.Key(body)
	entry, known := l.lookup(key)
	now := l.now()

	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.scratch = l.config.Bodies.Append(c.scratch[:0], key)
		ok = bytes.Equal(c.scratch, body)
	}
	switch {
	case !ok:
		c.note(ClassWrongBody, key, now, attempts, nil, body)
		return Delivery{void: true}
	case !known:
		c.note(ClassPhantom, key, now, attempts, nil, body)
		return Delivery{void: true}
	}
	epoch := uint16(l.epoch.Load())
	s := c.slots[key.Producer].grow(key.Counter)
	if s.state != stateNever && s.epoch == epoch && attempts < s.attempts && uint16(s.seen) < s.attempts {
		// An earlier attempt that another connection read late. The later one was judged, this one can no longer be answered with effect.
		c.lateReads++
		s.seen++
		return Delivery{Key: key, void: true}
	}
	if now+1 < entry.due {
		c.note(ClassEarly, key, now, attempts, s, nil)
	}
	if s.state != stateNever {
		c.judge(key, s, now, epoch, attempts)
	}
	*s = slot{at: now, epoch: epoch, attempts: attempts, seen: s.seen, state: stateHeld}
	if s.seen < 255 {
		s.seen++
	}
	return Delivery{Key: key, attempts: attempts, epoch: epoch}
}

// judge finds the cause of a repeated delivery, or the class of the fault it is.
func (c *Channel) judge(key Key, s *slot, now uint32, epoch, attempts uint16) {
	if s.state == stateFinished {
		c.note(ClassFinishedAgain, key, now, attempts, s, nil)
		return
	}
	restarted := s.epoch != epoch
	if attempts < s.attempts {
		c.note(ClassAttemptsDown, key, now, attempts, s, nil)
	}
	timedOut := now-s.at >= ticks(c.ledger.config.MsgTimeout-c.ledger.config.Slack)
	early := now+1 < s.due
	switch {
	case !restarted && attempts == s.attempts:
		// Whatever gives a message back, its next delivery counts as one more attempt: two consumers were given it at once.
		c.note(ClassDuplicateWithoutCause, key, now, attempts, s, nil)
	case restarted && s.state == stateRequeuedSure && early:
		c.note(ClassDelayForgotten, key, now, attempts, s, nil)
		c.duplicate(CauseRestart)
	case s.state == stateRequeuedSure && early, s.state == stateRequeued && early && !timedOut && !restarted:
		// Not processed before it timed out, or before the broker died: a REQ that nobody confirmed proves nothing then.
		c.note(ClassEarly, key, now, attempts, s, nil)
		c.duplicate(CauseRequeue)
	case restarted:
		c.duplicate(CauseRestart)
	case s.state == stateDropped, s.state == stateDroppedFin:
		c.duplicate(CauseDisconnect)
	case s.state == stateRequeuedSure, s.state == stateRequeued && !early:
		c.duplicate(CauseRequeue)
	case timedOut:
		c.duplicate(CauseTimeout)
	default:
		c.note(ClassDuplicateWithoutCause, key, now, attempts, s, nil)
	}
}

func (c *Channel) duplicate(cause Cause) {
	c.causes[cause]++
	c.events[ClassDuplicate]++
}

// current returns the slot that d is the receipt of, or nil if the broker has delivered the message again since.
func (c *Channel) current(d Delivery) *slot {
	if d.void {
		return nil
	}
	s := c.slots[d.Key.Producer].at(d.Key.Counter)
	if s.epoch != d.epoch || s.attempts != d.attempts {
		return nil
	}
	return s
}

// move changes the state of the message of d, if d is its current delivery and from is its state.
func (c *Channel) move(d Delivery, from, to state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.current(d); s != nil && s.state == from {
		s.state = to
	}
}

// Finished says that FIN is about to be sent for d.
func (c *Channel) Finished(d Delivery) { c.move(d, stateHeld, stateFinSent) }

// FinRefused says that the broker answered E_FIN_FAILED: the message must come again, if it did not already.
func (c *Channel) FinRefused(d Delivery) { c.move(d, stateFinSent, stateHeld) }

// Requeued says that REQ is about to be sent for d, with this delay.
func (c *Channel) Requeued(d Delivery, delay time.Duration) {
	due := c.ledger.now() + ticks(delay)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.current(d); s != nil && s.state == stateHeld {
		s.state, s.due = stateRequeued, due
	}
}

// ReqRefused says that the broker answered E_REQ_FAILED.
func (c *Channel) ReqRefused(d Delivery) { c.move(d, stateRequeued, stateHeld) }

// Barrier says that the broker answered a command which was sent after the answers to ds, on the same connection.
func (c *Channel) Barrier(ds []Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range ds {
		s := c.current(d)
		switch {
		case s == nil:
		case s.state == stateFinSent:
			s.state = stateFinished
		case s.state == stateRequeued:
			s.state = stateRequeuedSure
		}
	}
}

// Overtaken says that an answer to an earlier delivery of the same message on the same connection, not confirmed yet, may have met d: the
// message may come again or not.
func (c *Channel) Overtaken(d Delivery) { c.move(d, stateHeld, stateDroppedFin) }

// Disconnected says that the connection which got ds is about to be closed. ds is everything it holds and everything it answered
// since its last barrier.
func (c *Channel) Disconnected(ds []Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range ds {
		s := c.current(d)
		switch {
		case s == nil:
		case s.state == stateHeld, s.state == stateRequeued:
			s.state = stateDropped
		case s.state == stateFinSent:
			s.state = stateDroppedFin
		}
	}
}
