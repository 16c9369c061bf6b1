package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
)

// kinds of delays, each with the function that takes n samples of it on a topic of its own.
var kinds = []struct {
	name   string
	sample func(ctx context.Context, addr, topic string, n int, spread time.Duration) ([]sample, error)
}{
	{"DPUB", deferrals},
	{"REQ", requeues},
	{"timeout", timeouts},
}

const (
	delayMin = 20 * time.Millisecond
	timeout  = time.Second // the shortest a client may ask for
)

// pair is a publisher and a consumer of one topic.
type pair struct {
	pub, sub *client.Conn
	topic    string
	sent     []time.Time // by message, before it was written
}

func open(ctx context.Context, addr, topic string, n int, identify map[string]any) (*pair, func(), error) {
	pub, err := client.Dial(ctx, addr, nil)
	if err != nil {
		return nil, nil, err
	}
	sub, err := client.Dial(ctx, addr, identify)
	if err != nil {
		_ = pub.Close() // never used
		return nil, nil, err
	}
	p := &pair{pub: pub, sub: sub, topic: topic, sent: make([]time.Time, n)}
	shut := func() { _, _ = pub.Close(), sub.Close() } // whatever they would say, the samples are taken
	context.AfterFunc(ctx, shut)
	if err := sub.Subscribe(topic, "c"); err != nil {
		shut()
		return nil, nil, err
	}
	sub.Out = codec.AppendRdy(sub.Out, int64(n))
	return p, shut, sub.Flush()
}

// publish sends n messages, a millisecond apart and each when the one before is stored; append makes the command of message i.
func (p *pair) publish(n int, command func(dst []byte, i int, body []byte) []byte) error {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for i := range n {
		<-pace.C
		body := binary.BigEndian.AppendUint32(nil, uint32(i))
		p.pub.Out = command(p.pub.Out, i, body)
		p.sent[i] = time.Now()
		if err := p.pub.Expect("OK"); err != nil {
			return err
		}
	}
	return nil
}

// delivery is one message as it came.
type delivery struct {
	codec.Message
	index int
	at    time.Time
}

func (p *pair) next() (delivery, error) {
	frameType, data, err := p.sub.Next()
	at := time.Now()
	if err != nil {
		return delivery{}, err
	}
	m, ok := codec.ParseMessage(data)
	if frameType != codec.FrameMessage || !ok || len(m.Body) != 4 {
		return delivery{}, fmt.Errorf("the broker sent %.100q", data)
	}
	index := int(binary.BigEndian.Uint32(m.Body))
	if index >= len(p.sent) {
		return delivery{}, fmt.Errorf("message %d was never published", index)
	}
	return delivery{Message: m, index: index, at: at}, nil
}

// collect publishes and calls each with every delivery, until it has reported n samples. The publisher must be done before its times are
// read, which an answered publish does not prove to this goroutine: the samples are handed over at the end.
func (p *pair) collect(n int, command func([]byte, int, []byte) []byte, each func(d delivery) (done bool, err error)) error {
	published := make(chan error, 1)
	go func() { published <- p.publish(n, command) }()
	for left := n; left > 0; {
		d, err := p.next()
		if err != nil {
			return err
		}
		done, err := each(d)
		if err != nil {
			return err
		}
		if done {
			left--
			p.sub.Out = codec.AppendFin(p.sub.Out, d.ID)
		}
		if err := p.sub.Flush(); err != nil {
			return err
		}
	}
	return <-published
}

// delays are whole milliseconds, spread evenly.
func delays(n int, spread time.Duration) []time.Duration {
	list := make([]time.Duration, n)
	for i := range list {
		list[i] = (delayMin + rand.N(spread)).Truncate(time.Millisecond)
	}
	return list
}

// deferrals: a message may not come before its timestamp and its delay.
func deferrals(ctx context.Context, addr, topic string, n int, spread time.Duration) ([]sample, error) {
	p, shut, err := open(ctx, addr, topic, n, nil)
	if err != nil {
		return nil, err
	}
	defer shut()
	delay := delays(n, spread)
	var samples []sample
	err = p.collect(n, func(dst []byte, i int, body []byte) []byte {
		return codec.AppendDpub(dst, topic, delay[i], body)
	}, func(d delivery) (bool, error) {
		late := time.Duration(d.at.UnixNano() - d.Timestamp - int64(delay[d.index]))
		samples = append(samples, sample{early: late < 0, late: late})
		return true, nil
	})
	return samples, err
}

// requeues: a message may not come back before its delay has passed since the REQ left.
func requeues(ctx context.Context, addr, topic string, n int, spread time.Duration) ([]sample, error) {
	p, shut, err := open(ctx, addr, topic, n, nil)
	if err != nil {
		return nil, err
	}
	defer shut()
	delay := delays(n, spread)
	asked := make([]time.Time, n)
	var samples []sample
	err = p.collect(n, func(dst []byte, _ int, body []byte) []byte {
		return codec.AppendPub(dst, topic, body)
	}, func(d delivery) (bool, error) {
		if d.Attempts == 1 {
			asked[d.index] = time.Now()
			p.sub.Out = codec.AppendReq(p.sub.Out, d.ID, delay[d.index])
			return false, nil
		}
		late := d.at.Sub(asked[d.index]) - delay[d.index]
		samples = append(samples, sample{early: late < 0, late: late})
		return true, nil
	})
	return samples, err
}

// timeouts: a message that nobody answers may not come again before its timeout has passed since it was published, and is late when that
// has passed since it was received.
func timeouts(ctx context.Context, addr, topic string, n int, _ time.Duration) ([]sample, error) {
	p, shut, err := open(ctx, addr, topic, n, map[string]any{"msg_timeout": timeout.Milliseconds()})
	if err != nil {
		return nil, err
	}
	defer shut()
	first, again := make([]time.Time, n), make([]time.Time, n)
	err = p.collect(n, func(dst []byte, _ int, body []byte) []byte {
		return codec.AppendPub(dst, topic, body)
	}, func(d delivery) (bool, error) {
		if d.Attempts == 1 {
			first[d.index] = d.at
			return false, nil
		}
		again[d.index] = d.at
		return true, nil
	})
	samples := make([]sample, n)
	for i := range samples {
		samples[i] = sample{early: again[i].Sub(p.sent[i]) < timeout, late: again[i].Sub(first[i]) - timeout}
	}
	return samples, err
}
