package loop

import (
	"math"

	"github.com/nsqloop/nsqloop/codec"
)

// Every connection has one node in its loop's wheel, for the earliest of: the heartbeat, the read deadline, the next
// attempt to write, the write deadline and the first message timeout. It is armed lazily: a deadline that moves away
// leaves it where it is, and when it fires too early it is armed anew. So traffic costs no work on the wheel.

// armTimer makes sure that the timer fires no later than the earliest deadline.
func (c *conn) armTimer() {
	if at := c.nextDeadline(); at != 0 && (!c.timer.armed || at < c.timer.deadline()) {
		c.l.wheel.arm(&c.timer, at)
	}
}

func (c *conn) nextDeadline() int64 {
	at := int64(math.MaxInt64)
	for _, d := range [...]int64{c.beatAt, c.readBy, c.retryAt, c.upgradeBy()} {
		if d != 0 {
			at = min(at, d)
		}
	}
	if c.cons != nil {
		if d := c.cons.NextDeadline(); d != 0 {
			at = min(at, d)
		}
	}
	if at == math.MaxInt64 {
		return 0
	}
	return at
}

// onTimer looks at all deadlines of the connection. settle follows.
func (c *conn) onTimer() {
	now := c.l.now
	if c.retryAt != 0 && now >= c.retryAt {
		c.flushOutput()
		c.checkWriteDeadline(now)
	}
	if c.dead {
		return
	}
	if c.beatAt != 0 && now >= c.beatAt {
		c.heartbeat(now)
	}
	if c.cons != nil {
		if at := c.cons.NextDeadline(); at != 0 && now >= at {
			c.cons.Expire(now)
			c.acked = true
		}
	}
	if c.readBy != 0 && now >= c.readBy {
		c.readDeadline()
	}
	if by := c.upgradeBy(); by != 0 && now >= by {
		c.upgradeDeadline()
	}
}

// checkWriteDeadline gives a connection up that took no byte for one heartbeat interval. The retries come often enough
// to need no deadline of their own. A connection whose heartbeats are off has all the time it wants, except for its
// last words.
func (c *conn) checkWriteDeadline(now int64) {
	limit := c.interval
	if limit == 0 && c.ending {
		limit = lingerMax
	}
	if c.unsent() && limit != 0 && now-c.movedAt >= limit {
		c.l.log(LogInfo, "CLIENT(%s): took no output for too long", c.remote)
		c.dead = true
	}
}

const lingerMax = 5e9 // ns

// heartbeat keeps the phase of a fixed ticker, and skips beats like one when it comes too late. While the client does
// not read, one heartbeat is enough.
func (c *conn) heartbeat(now int64) {
	c.beatAt += c.beatEvery
	if c.beatAt <= now {
		c.beatAt += (now - c.beatAt) / c.beatEvery * c.beatEvery
		c.beatAt += c.beatEvery
	}
	if c.ending || c.beatWaits || c.up != nil || c.controlRoom() < len(codec.FrameHeartbeat) {
		return
	}
	c.sendControl(codec.FrameHeartbeat)
	c.beatWaits = len(c.control) > 0 || len(c.wireOut) > 0
}

// startBeats starts the ticker anew; 0 stops it.
func (c *conn) startBeats(every int64) {
	c.beatEvery, c.beatAt = every, 0
	if every > 0 {
		c.beatAt = c.l.now + every
	}
}

// renewRead gives the client two heartbeat intervals for its next command.
func (c *conn) renewRead() {
	c.readBy = 0
	if c.interval > 0 && c.paused == 0 && !c.ending && c.up == nil {
		c.readBy = c.l.now + 2*c.interval
	}
}

// readDeadline: a client that is silent, or too slow within one command. Inside a body it is told.
func (c *conn) readDeadline() {
	c.readBy = 0
	if c.ending {
		return
	}
	if c.magicLen == uint8(len(c.magic)) {
		if err := c.split.Truncated(); err != nil {
			c.refuse(err)
			return
		}
	}
	c.l.log(LogInfo, "CLIENT(%s): sent nothing for too long", c.remote)
	c.ending = true
}
