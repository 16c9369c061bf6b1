package loop

import (
	"errors"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// topicEntry is a loop's own pointer to a topic, so that a publish takes no lock of the broker's.
type topicEntry struct {
	name  string
	topic *fanout.Topic
	batch uint64 // the batch in which group is valid
	group int
}

// batch collects the PUBs of one read of one connection: they are appended with one call per topic. Bodies alias the
// input, so the batch is flushed before that is reused. Owned by the loop, empty between events.
type batch struct {
	seq    uint64
	groups []pubGroup
	last   int     // group of the last PUB
	order  []int32 // group of every PUB, in order: the order of the answers
}

// pubGroup are the PUBs of a batch to one topic, and what became of them.
type pubGroup struct {
	entry    *topicEntry
	bodies   [][]byte
	ack      fanout.Ack
	done     int // bodies appended
	err      error
	slow     *slowItem // where bodies[done:] went
	answered int
}

// lookupTopic gives the loop's entry of a topic, which is created if missing. name is valid.
func (l *loop) lookupTopic(name []byte) (*topicEntry, error) {
	if e := l.topics[string(name)]; e != nil {
		return e, nil
	}
	t, err := l.broker.Topic(name)
	if err != nil {
		return nil, err
	}
	l.sweepTopics()
	e := &topicEntry{name: string(name), topic: t}
	l.topics[e.name] = e
	return e, nil
}

// sweepTopics drops the entries of deleted topics whenever the table has doubled.
func (l *loop) sweepTopics() {
	if len(l.topics) < l.topicsSweep {
		return
	}
	for name, e := range l.topics {
		if e.topic.Deleted() {
			delete(l.topics, name)
		}
	}
	l.topicsSweep = max(topicsSweepMin, 2*len(l.topics))
}

const topicsSweepMin = 64

// renewed replaces the topic of an entry that was deleted by its successor of the same name. It reports false when the
// refusal stands.
func (l *loop) renewed(e *topicEntry, err error) bool {
	if !errors.Is(err, fanout.ErrExiting) || !e.topic.Deleted() {
		return false
	}
	t, err := l.broker.Topic([]byte(e.name))
	if err != nil || t == e.topic {
		return false
	}
	e.topic = t
	return true
}

func (l *loop) publish(e *topicEntry, bodies [][]byte) (fanout.Ack, int, error) {
	ack, done, err := e.topic.Publish(bodies)
	if err != nil && done == 0 && l.renewed(e, err) {
		return e.topic.Publish(bodies)
	}
	return ack, done, err
}

// pub carries out PUB: it joins the batch.
func (c *conn) pub(cmd *codec.Command) {
	l := c.l
	b := &l.batch
	if len(b.groups) == 0 || string(cmd.Topic) != b.groups[b.last].entry.name {
		if err := l.openGroup(cmd.Topic); err != nil {
			c.refuse(codec.PublishFailed(codec.KindPub, err.Error()))
			return
		}
	}
	g := &b.groups[b.last]
	g.bodies = append(g.bodies, cmd.Body)
	b.order = append(b.order, int32(b.last))
}

// openGroup makes the group of a topic the last one.
func (l *loop) openGroup(topic []byte) error {
	e, err := l.lookupTopic(topic)
	if err != nil {
		return err
	}
	b := &l.batch
	if e.batch == b.seq {
		b.last = e.group
		return nil
	}
	e.batch, e.group = b.seq, len(b.groups)
	b.last = e.group
	if len(b.groups) < cap(b.groups) { // reuse the slice of bodies that lies there
		b.groups = b.groups[:len(b.groups)+1]
	} else {
		b.groups = append(b.groups, pubGroup{})
	}
	g := &b.groups[b.last]
	*g = pubGroup{entry: e, bodies: g.bodies[:0]}
	return nil
}

// flushPublishes appends the batch and answers it.
func (l *loop) flushPublishes(c *conn) {
	b := &l.batch
	if len(b.order) == 0 {
		return
	}
	settled := true
	for i := range b.groups {
		g := &b.groups[i]
		if c.job != nil { // earlier ones wait for the disk: keep the order
			g.err = fanout.ErrWouldBlock
		} else {
			g.ack, g.done, g.err = l.publish(g.entry, g.bodies)
		}
		c.countPublished(g.entry.name, g.done)
		settled = settled && g.err == nil && g.ack.Settled() && g.ack.Err() == nil
	}
	if settled {
		c.replyOKs(len(b.order), codec.KindPub, fanout.Ack{})
	} else {
		c.answerBatch(b)
	}
	l.resetBatch()
}

// resetBatch empties the batch. What the bodies referred to is let go.
func (l *loop) resetBatch() {
	b := &l.batch
	for i := range b.groups {
		bodies := b.groups[i].bodies
		clear(bodies)
		if cap(bodies) > bodiesKept {
			bodies = nil
		}
		b.groups[i] = pubGroup{bodies: bodies[:0]}
	}
	if b.groups = b.groups[:0]; cap(b.groups) > groupsKept {
		b.groups = nil
	}
	b.order = b.order[:0]
	b.seq++
}

// What a loop keeps of a batch's memory.
const (
	groupsKept = 64
	bodiesKept = 1 << 14 // per group, 24 bytes each
)

// answerBatch answers the publishes of a batch one by one, joining neighbours that share their fate.
func (c *conn) answerBatch(b *batch) {
	for i := 0; i < len(b.order) && !c.ending; {
		group := b.order[i]
		g := &b.groups[group]
		n := 1
		for i+n < len(b.order) && b.order[i+n] == group && (g.answered+n < g.done) == (g.answered < g.done) {
			n++
		}
		switch {
		case g.answered < g.done:
			c.replyOKs(n, codec.KindPub, g.ack)
		case errors.Is(g.err, fanout.ErrWouldBlock):
			if g.slow == nil {
				g.slow = c.publishSlowly(codec.KindPub, g.entry, g.bodies[g.done:])
			}
			c.queueOKs(reply{oks: n, kind: codec.KindPub, slow: g.slow})
		default:
			err := codec.PublishFailed(codec.KindPub, g.err.Error())
			c.l.log(LogError, "CLIENT(%s): %s", c.remote, err)
			c.replyError(err)
		}
		g.answered += n
		i += n
	}
}

// mpubHead creates the topic of an MPUB, before its body is looked at.
func (c *conn) mpubHead(cmd *codec.Command) {
	if _, err := c.l.lookupTopic(cmd.Topic); err != nil {
		c.refuse(codec.PublishFailed(codec.KindMpub, err.Error()))
	}
}

// mpub carries out MPUB: one append, one answer.
func (c *conn) mpub(cmd *codec.Command) {
	c.publishNow(cmd, cmd.Bodies)
}

// dpub carries out DPUB. A delay of 0 is an ordinary publish with other words for its failure.
func (c *conn) dpub(cmd *codec.Command) {
	c.l.one[0] = cmd.Body
	c.publishNow(cmd, c.l.one[:])
	c.l.one[0] = nil
}

func (c *conn) publishNow(cmd *codec.Command, bodies [][]byte) {
	l := c.l
	l.flushPublishes(c)
	if c.ending {
		return
	}
	e, err := l.lookupTopic(cmd.Topic)
	if err != nil {
		c.refuse(codec.PublishFailed(cmd.Kind, err.Error()))
		return
	}
	var ack fanout.Ack
	var done int
	err = fanout.ErrWouldBlock
	switch {
	case c.job != nil: // earlier ones wait for the disk: keep the order
	case cmd.Kind == codec.KindDpub && cmd.Delay > 0:
		ack, err = l.publishDeferred(e, cmd)
	default:
		ack, done, err = l.publish(e, bodies)
	}
	switch {
	case err == nil:
		c.countPublished(e.name, len(bodies))
		c.replyOKs(1, cmd.Kind, ack)
	case errors.Is(err, fanout.ErrWouldBlock):
		c.countPublished(e.name, done)
		item := c.publishSlowly(cmd.Kind, e, bodies[done:])
		if cmd.Kind == codec.KindDpub {
			item.delay = cmd.Delay
		}
		c.queueOKs(reply{oks: 1, kind: cmd.Kind, slow: item})
	default:
		c.refuse(codec.PublishFailed(cmd.Kind, err.Error()))
	}
}

func (l *loop) publishDeferred(e *topicEntry, cmd *codec.Command) (fanout.Ack, error) {
	ack, err := e.topic.PublishDeferred(cmd.Body, cmd.Delay)
	if err != nil && l.renewed(e, err) {
		return e.topic.PublishDeferred(cmd.Body, cmd.Delay)
	}
	return ack, err
}

// countPublished keeps the counts per topic that stats show of a producer.
func (c *conn) countPublished(topic string, n int) {
	if n == 0 {
		return
	}
	if c.published == nil {
		c.published = make(map[string]uint64, 1)
	}
	c.published[topic] += uint64(n)
}
