package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// delaysMax bounds what is collected before it is recorded.
const delaysMax = 1024

// noteDelay remembers the delay of a requeue for SaveDelays. The number of deliveries is taken now: when the message is delivered again before
// the record is written, the record is history from the beginning.
func (c *Consumer) noteDelay(id uint64, due, now int64) {
	ch := c.ch
	if ch.memory {
		return
	}
	if len(c.delays) == 0 {
		c.delaysAt = ch.t.b.toDisk(now)
	}
	s, p, _ := mmapq.SplitID(id)
	c.delays = append(c.delays, mmapq.Delay{Channel: ch.meta.ID, Stream: s, Pos: p, Due: ch.t.b.toDisk(due), Attempts: max(ch.states[s].Get(p), 1)})
	if len(c.delays) == delaysMax {
		c.SaveDelays()
	}
}

// SaveDelays makes the delays of this batch's REQs survive a restart: one system call for each kind of delay among them. Called before the
// batch is answered, and by EndBatch. Where it fails (no disk space) the messages are delivered at once after a restart, which is said in the
// log; they are not lost.
func (c *Consumer) SaveDelays() {
	if len(c.delays) == 0 || mmapq.Mutant("forget-delay") {
		return
	}
	if err := c.ch.t.b.st.SaveDelays(c.delays, c.delaysAt); err != nil {
		c.ch.t.b.opts.Warn("CHANNEL(%s): %d delays would not survive a restart: %v", c.ch.name, len(c.delays), err)
	}
	c.delays = c.delays[:0]
}

// delaysFound walks the delays that a start read back, beside a walk over unfinished messages of ascending position.
type delaysFound struct {
	list []mmapq.Delay // see mmapq.Store.Delays
	now  int64
}

// of returns the due time of p in stream s, which still waits with as many deliveries as its state says. Calls ascend by stream and position.
func (d *delaysFound) of(s mmapq.Stream, p mmapq.Pos, attempts uint16) (due int64, ok bool) {
	for len(d.list) > 0 {
		e := d.list[0]
		if e.Stream > s || e.Stream == s && e.Pos > p {
			break
		}
		d.list = d.list[1:]
		if e.Stream == s && e.Pos == p && e.Attempts == max(attempts, 1) {
			due, ok = e.Due, e.Due > d.now // the last one counts
		}
	}
	return due, ok
}
