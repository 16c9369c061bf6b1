package loop

import (
	"errors"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// subscribers are the consumers of one channel on one loop, and what the loop knows of the channel. Owned by the loop.
type subscribers struct {
	ch      *fanout.Channel
	members connList
	ready   connList // those with credit and nothing unsent; told to the channel by AddReady
	dirty   bool     // on the loop's list of channels to deliver
}

// subscribeTries bounds how often SUB starts over when it meets a topic or channel in the moment of its deletion.
const subscribeTries = 3

// subscribe carries out SUB.
func (c *conn) subscribe(topic, channel []byte) {
	l := c.l
	l.flushPublishes(c)
	if c.ending {
		return
	}
	var cons *fanout.Consumer
	var err error
	for range subscribeTries {
		if cons, err = c.addConsumer(topic, channel); !errors.Is(err, fanout.ErrExiting) {
			break
		}
	}
	if err != nil {
		c.refuse(codec.SubFailed(err.Error()))
		return
	}
	c.cons = cons
	c.pol.State = codec.StateSubscribed
	l.join(c)
	c.replyBytes(codec.FrameOK)
}

func (c *conn) addConsumer(topic, channel []byte) (*fanout.Consumer, error) {
	t, err := c.l.broker.Topic(topic)
	if err != nil {
		return nil, err
	}
	ch, err := t.Channel(channel)
	if err != nil {
		return nil, err
	}
	return ch.AddConsumer(c.l.idx, c.consumerOptions())
}

// consumerOptions are those of the first IDENTIFY, except that TOUCH goes by the last one.
func (c *conn) consumerOptions() fanout.ConsumerOptions {
	o := fanout.ConsumerOptions{MsgTimeout: c.msgTimeout, SampleRate: c.sampleRate}
	if c.id != nil {
		o.TouchTimeout = c.id.MsgTimeout
	}
	return o
}

// startClose carries out CLS: no further messages; those in flight can still be answered.
func (c *conn) startClose() {
	c.l.flushPublishes(c)
	if c.ending {
		return
	}
	c.cons.StartClose()
	c.acked = true
	c.pol.State = codec.StateClosing
	c.replyBytes(codec.FrameCloseWait)
}

// join puts a new consumer among those of its channel.
func (l *loop) join(c *conn) {
	ch := c.cons.Channel()
	s := l.channels[ch]
	if s == nil {
		s = &subscribers{ch: ch, members: connList{kind: linkMember}, ready: connList{kind: linkReady}}
		l.channels[ch] = s
	}
	s.members.pushBack(c)
	c.subs = s
}

// leaveChannel ends the subscription: what is in flight goes back, without an attempt if no byte of it was written.
func (c *conn) leaveChannel() {
	if c.cons == nil {
		return
	}
	s, cons := c.subs, c.cons
	c.subs, c.cons, c.acked = nil, nil, false
	s.members.remove(c)
	if s.ready.remove(c) {
		s.ch.AddReady(-1)
	}
	if s.members.size == 0 {
		delete(c.l.channels, s.ch)
	}
	if c.held != nil {
		cons.Unwritten(&c.held.run, c.held.sent-c.held.unseen)
	}
	cons.Close(c.l.now)
}

// channelChanged: the channel was emptied, paused or unpaused, so the credit of all its consumers may be another.
func (l *loop) channelChanged(s *subscribers) {
	for c := s.members.first; c != nil; c = s.members.after(c) {
		l.culprit = c
		c.cons.Refresh()
		c.updateReady()
	}
	l.deliverLater(s)
}

// updateReady puts the connection on its channel's ready list, or takes it off.
func (c *conn) updateReady() {
	s := c.subs
	if s == nil {
		return
	}
	if c.unsent() || c.ending || c.cons.Credit() <= 0 {
		if s.ready.remove(c) {
			s.ch.AddReady(-1)
		}
		return
	}
	if s.ready.pushBack(c) {
		s.ch.AddReady(1)
		c.l.deliverLater(s)
	}
}
