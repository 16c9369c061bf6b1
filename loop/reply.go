package loop

import (
	"bytes"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// Replies leave in the order of their commands. Most are bytes at once and go through the loop's stage, which collects
// what one event has to say to one connection, straight to the socket. A reply that must wait (for a sync, for the disk)
// enters the connection's queue, and from then on everything behind it does too, a closing error included.
//
// What waits is bounded: with outputMax bytes of replies owed, no further command is decoded. OKs are counted, not stored.
const outputMax = 64 << 10

// reply is one entry of the queue: oks OK frames once the publishes behind it are safe, or data.
type reply struct {
	oks  int
	kind codec.Kind // of the publishes
	ack  fanout.Ack
	slow *slowItem // set: its ack is not known yet
	data []byte
}

type replyQueue struct {
	entries []reply
	front   int
	bytes   int // of data, and what the OKs will have
}

func (q *replyQueue) empty() bool { return q.front == len(q.entries) }

// push queues OKs.
func (q *replyQueue) push(r reply) {
	q.bytes += r.oks * len(codec.FrameOK)
	q.entries = append(q.entries, r)
}

// pushBytes copies frames behind everything queued.
func (q *replyQueue) pushBytes(frames []byte) {
	q.bytes += len(frames)
	if !q.empty() {
		if last := &q.entries[len(q.entries)-1]; last.data != nil && len(last.data)+len(frames) <= outputMax/4 {
			last.data = append(last.data, frames...)
			return
		}
	}
	q.entries = append(q.entries, reply{data: bytes.Clone(frames)})
}

func (q *replyQueue) pop() {
	q.bytes -= len(q.entries[q.front].data)
	q.entries[q.front] = reply{}
	q.front++
	switch {
	case q.empty():
		q.clear()
	case q.front >= 64 && q.front >= len(q.entries)/2:
		rest := copy(q.entries, q.entries[q.front:])
		clear(q.entries[rest:])
		q.entries, q.front = q.entries[:rest], 0
	}
}

// clear forgets every entry and the memory: waiting is the exception, so an idle connection keeps no queue.
func (q *replyQueue) clear() { *q = replyQueue{} }

var okFrames = bytes.Repeat(codec.FrameOK, outputMax/len(codec.FrameOK))

// replyBytes sends frames, or queues a copy of them.
func (c *conn) replyBytes(frames []byte) {
	l := c.l
	if c.replies.empty() && len(l.stage)+len(frames) > outputMax {
		c.flushStage()
	}
	if c.replies.empty() && (len(l.stage)+len(frames) <= c.controlRoom()) {
		l.stage = append(l.stage, frames...)
		return
	}
	c.replies.pushBytes(frames)
	c.full = c.full || c.backlogged()
}

// replyOKs sends n OKs, once ack is settled.
func (c *conn) replyOKs(n int, kind codec.Kind, ack fanout.Ack) {
	l := c.l
	if size := n * len(codec.FrameOK); c.replies.empty() && len(l.stage)+size <= c.controlRoom() &&
		ack.Settled() && ack.Err() == nil {
		l.stage = append(l.stage, okFrames[:size]...)
		return
	}
	c.queueOKs(reply{oks: n, kind: kind, ack: ack})
}

// queueOKs queues OKs that must wait.
func (c *conn) queueOKs(r reply) {
	c.replies.push(r)
	c.full = c.full || c.backlogged()
}

// replyError sends an error frame. A fatal one ends the input of the connection, and the connection when it is out.
func (c *conn) replyError(err *codec.Error) {
	l := c.l
	l.srv.errors.add(err.Code)
	l.frame = codec.AppendError(l.frame[:0], err)
	c.replyBytes(l.frame)
	if err.Fatal {
		c.ending = true
	}
}

// backlogged tells that the client has taken so little of its replies that it gets no further ones.
func (c *conn) backlogged() bool {
	return c.replies.bytes+len(c.control)-c.controlSent+len(c.wireOut)-c.wireSent >= outputMax
}

// flushReplies sends what may be sent.
func (c *conn) flushReplies() {
	for !c.replies.empty() && !c.dead {
		r := &c.replies.entries[c.replies.front]
		settled, err := c.settled(r)
		if !settled {
			c.l.waiting.pushBack(c)
			break
		}
		if err != nil { // the publish failed: what was answered behind it would be a lie
			c.replies.clear()
			c.replyError(codec.PublishFailed(r.kind, err.Error()))
			break
		}
		if !c.stageReply(r) {
			break
		}
		c.replies.pop()
	}
	c.flushStage()
}

// settled tells whether the entry needs to wait no longer, and with what result.
func (c *conn) settled(r *reply) (bool, error) {
	if r.slow != nil {
		if !r.slow.done {
			return false, nil
		}
		if r.slow.err != nil {
			return true, r.slow.err
		}
		r.ack, r.slow = r.slow.ack, nil
	}
	if !r.ack.Settled() {
		r.ack.Subscribe(c.l.idx) // every time: a subscription ends with the next sync, which may not be ours
		if !r.ack.Settled() {    // it may have settled before the subscription
			return false, nil
		}
	}
	return true, r.ack.Err()
}

// stageReply moves an entry into the stage, or what fits of it; false while some of it is left.
func (c *conn) stageReply(r *reply) bool {
	l := c.l
	for r.oks > 0 {
		fit := min(r.oks, (c.controlRoom()-len(l.stage))/len(codec.FrameOK))
		if fit <= 0 {
			if len(l.stage) == 0 {
				return false
			}
			c.flushStage()
			continue
		}
		l.stage = append(l.stage, okFrames[:fit*len(codec.FrameOK)]...)
		r.oks -= fit
		c.replies.bytes -= fit * len(codec.FrameOK)
	}
	if len(l.stage)+len(r.data) > c.controlRoom() {
		c.flushStage()
		// A frame that is larger than all the room there ever is must go when nothing else is in its way.
		if len(r.data) > c.controlRoom() && c.unsent() {
			return false
		}
	}
	l.stage = append(l.stage, r.data...)
	return true
}

// flushStage hands the stage to the socket. The stage belongs to one connection only during one event.
func (c *conn) flushStage() {
	if l := c.l; len(l.stage) > 0 {
		if c.acked {
			c.cons.StoreFins() // an answer tells that what came before it is done
		}
		c.sendControl(l.stage)
		l.stage = l.stage[:0]
	}
}
