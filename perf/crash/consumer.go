package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

// consumer takes messages of one channel and does to each what its random numbers say: finish, requeue, requeue with a delay, touch,
// hold. Between, it confirms what it answered by publishing a message of its own, and now and then it hangs up and comes back.
type consumer struct {
	*rig
	clients  *clients
	channel  string
	book     *ledger.Channel
	producer uint32 // of its barriers
	random   *rand.Rand
	rdy      int

	conn     *client.Conn
	held     []taken // delivered and not answered, oldest first
	answered []taken // FIN or REQ sent and not confirmed, oldest first
	silent   bool    // publishes no barriers: they may be refused
	barrier  bool    // a barrier is on its way: it confirms answered[:covered]
	covered  int
	key      ledger.Key // of that barrier
	body     []byte
}

// taken is one message this consumer got on its present connection.
type taken struct {
	id      [codec.IDLen]byte
	receipt ledger.Delivery
}

const (
	barrierEvery = 40 // answers
	hangupEvery  = 3000
	// silentAnswers are remembered by a consumer that confirms nothing: more than the largest RDY, since what the broker has not processed is
	// still in flight there.
	silentAnswers = 1100
	requeueMax    = 200 * time.Millisecond
)

func (r *rig) newConsumer(c *clients, number int) *consumer {
	channel := r.channels[number%channelCount]
	return &consumer{rig: r, clients: c, channel: channel, book: r.book.Channel(channel), producer: uint32(publishers + number)}
}

// run consumes until the connection breaks.
func (c *consumer) run(ctx context.Context) error {
	for {
		c.rdy = []int{2, 20, 200, 1000}[c.random.IntN(4)]
		if err := c.session(ctx); err != nil {
			return err
		}
		c.clients.hangups.Add(1)
	}
}

// session is one connection; nil means that this consumer hung up.
func (c *consumer) session(ctx context.Context) error {
	release, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer release()
	for {
		hangup, err := c.step(c.treat)
		if err != nil {
			return err
		}
		if hangup {
			c.hangup()
			return nil
		}
		if c.conn.Ready() {
			continue
		}
		if n := len(c.answered) - silentAnswers; c.silent && n > silentAnswers {
			c.answered = append(c.answered[:0], c.answered[n:]...) // long processed, if nobody will say so
		}
		if !c.barrier && !c.silent && len(c.answered) >= barrierEvery {
			c.sendBarrier()
		}
		if err := c.conn.Flush(); err != nil {
			return err
		}
	}
}

// connect subscribes on a new connection and sends RDY.
func (c *consumer) connect(ctx context.Context) (release func(), err error) {
	c.held, c.answered, c.barrier = c.held[:0], c.answered[:0], false
	c.conn, release, err = dial(ctx, c.daemon.TCPAddr, map[string]any{"msg_timeout": c.timeout.Milliseconds()})
	if err != nil {
		return nil, err
	}
	if err := c.conn.Subscribe(topic, c.channel); err != nil {
		release()
		return nil, err
	}
	c.conn.Out = codec.AppendRdy(c.conn.Out, int64(c.rdy))
	if err := c.conn.Flush(); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// step waits for one frame and deals with it; a message is entered and given to treat. hangup is true now and then after a message.
func (c *consumer) step(treat func(taken)) (hangup bool, err error) {
	frameType, data, err := c.conn.Next()
	if err != nil {
		return false, err
	}
	switch frameType {
	case codec.FrameMessage:
		m, ok := codec.ParseMessage(data)
		if !ok {
			return false, fmt.Errorf("message frame of %d bytes", len(data))
		}
		c.clients.delivered.Add(1)
		t := taken{receipt: c.book.Delivered(m.Body, m.Attempts)}
		copy(t.id[:], m.ID)
		c.again(t)
		treat(t)
		return c.random != nil && c.random.IntN(hangupEvery) == 0, nil
	case codec.FrameResponse:
		return false, c.response(data)
	}
	return false, c.refusal(data)
}

// again deals with a message that this connection was given before: it timed out there and nobody else took it. The id is the same, so the
// broker takes an answer to the earlier delivery for one to this: the earlier one is forgotten, and if it was answered already, nobody can tell
// which delivery that answer met.
func (c *consumer) again(t taken) {
	same := func(old taken) bool { return old.id == t.id }
	c.held = slices.DeleteFunc(c.held, same)
	if slices.ContainsFunc(c.answered, same) {
		c.book.Overtaken(t.receipt)
	}
}

func (c *consumer) response(data []byte) error {
	if string(data) != "OK" || !c.barrier {
		return fmt.Errorf("unexpected response %q", data)
	}
	c.rig.book.Acked(c.key)
	c.confirm(c.covered)
	c.barrier = false
	return nil
}

// confirm settles the first n answers.
func (c *consumer) confirm(n int) {
	c.book.Barrier(receipts(c.answered[:n]))
	c.answered = append(c.answered[:0], c.answered[n:]...)
}

func receipts(list []taken) []ledger.Delivery {
	ds := make([]ledger.Delivery, len(list))
	for i, t := range list {
		ds[i] = t.receipt
	}
	return ds
}

// refusal reads "E_FIN_FAILED FIN id failed reason" and its likes for REQ and TOUCH; any other error breaks the run.
func (c *consumer) refusal(data []byte) error {
	words := bytes.SplitN(data, []byte(" "), 4)
	if len(words) < 4 || len(words[2]) != codec.IDLen {
		return fmt.Errorf("error frame %q", data)
	}
	var judge func(ledger.Delivery)
	switch string(words[0]) {
	case "E_FIN_FAILED":
		judge = c.book.FinRefused
	case "E_REQ_FAILED":
		judge = c.book.ReqRefused
	case "E_TOUCH_FAILED":
		judge = func(ledger.Delivery) {}
	default:
		return fmt.Errorf("error frame %q", data)
	}
	c.clients.refused.Add(1)
	for i := len(c.answered) - 1; i >= 0; i-- {
		if bytes.Equal(c.answered[i].id[:], words[2]) {
			judge(c.answered[i].receipt)
			break
		}
	}
	return nil
}

// treat decides over a message under load. At most half the RDY is held, so that messages keep coming.
func (c *consumer) treat(t taken) {
	switch choice := c.random.IntN(100); {
	case choice < 6:
		c.requeue(t, 0)
	case choice < 12:
		c.requeue(t, time.Duration(c.random.Int64N(int64(requeueMax))).Truncate(time.Millisecond))
	case choice < 30 && len(c.held) < c.rdy/2:
		c.held = append(c.held, t)
		if choice < 16 {
			c.conn.Out = codec.AppendTouch(c.conn.Out, t.id[:])
		}
	default:
		c.finish(t)
	}
	if len(c.held) > 0 && c.random.IntN(6) == 0 { // slower than they are taken: some are held when the daemon dies
		i := c.random.IntN(len(c.held))
		c.finish(c.held[i])
		c.held = append(c.held[:i], c.held[i+1:]...)
	}
}

func (c *consumer) finish(t taken) {
	c.clients.finished.Add(1)
	c.book.Finished(t.receipt)
	c.conn.Out = codec.AppendFin(c.conn.Out, t.id[:])
	c.answered = append(c.answered, t)
}

func (c *consumer) requeue(t taken, delay time.Duration) {
	c.clients.requeued.Add(1)
	c.book.Requeued(t.receipt, delay)
	c.conn.Out = codec.AppendReq(c.conn.Out, t.id[:], delay)
	c.answered = append(c.answered, t)
}

// sendBarrier publishes; when its OK comes, what was answered so far has been processed.
func (c *consumer) sendBarrier() {
	c.key = c.rig.book.Sent(c.producer, 0)
	c.body = c.rig.book.Body(c.body[:0], c.key)
	c.conn.Out = codec.AppendPub(c.conn.Out, topic, c.body)
	c.barrier, c.covered = true, len(c.answered)
}

// hangup tells the ledger first: the broker may give the messages to others before Close returns.
func (c *consumer) hangup() {
	c.book.Disconnected(receipts(c.held))
	c.book.Disconnected(receipts(c.answered))
}
