package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

// publisher sends single PUBs, pipelined ones, DPUBs and MPUBs of random sizes until its connection breaks.
type publisher struct {
	*rig
	clients *clients
	number  uint32
	random  *rand.Rand
	owed    [][]ledger.Key // what each OK that is still to come acknowledges
	body    []byte
}

const (
	pipelineMax = 32
	mpubMax     = 100
	delayMax    = 300 * time.Millisecond
	// pace is the pause for each message published; with three publishers some 10,000 messages a second remain.
	pace = 300 * time.Microsecond
)

func (p *publisher) run(ctx context.Context) error {
	conn, release, err := dial(ctx, p.daemon.TCPAddr, nil)
	if err != nil {
		return err
	}
	defer release()
	for {
		n := p.compose(conn)
		if err := conn.Flush(); err != nil {
			return err
		}
		for _, keys := range p.owed {
			if err := conn.Expect("OK"); err != nil {
				return err
			}
			for _, key := range keys {
				p.book.Acked(key)
			}
			p.clients.published.Add(int64(len(keys)))
		}
		p.owed = p.owed[:0]
		time.Sleep(time.Duration(n) * pace)
	}
}

// compose puts the next commands into conn.Out and enters their messages, whose number it returns.
func (p *publisher) compose(conn *client.Conn) int {
	switch choice := p.random.IntN(10); {
	case choice < 4:
		n := 1 + p.random.IntN(pipelineMax)
		for range n {
			p.composeOne(conn)
		}
		return n
	case choice < 6:
		p.composeOne(conn)
		return 1
	}
	n := 1 + p.random.IntN(mpubMax)
	keys, bodies := make([]ledger.Key, n), make([][]byte, n)
	for i := range n {
		keys[i] = p.book.Sent(p.number, 0)
		bodies[i] = p.book.Body(nil, keys[i])
	}
	conn.Out = codec.AppendMpub(conn.Out, topic, bodies)
	p.owed = append(p.owed, keys)
	return n
}

func (p *publisher) composeOne(conn *client.Conn) {
	delay := time.Duration(0)
	if p.deferred && p.random.IntN(4) == 0 {
		delay = (1 + time.Duration(p.random.Int64N(int64(delayMax)))).Truncate(time.Millisecond)
	}
	key := p.book.Sent(p.number, delay)
	p.body = p.book.Body(p.body[:0], key)
	if delay > 0 {
		conn.Out = codec.AppendDpub(conn.Out, topic, delay, p.body)
	} else {
		conn.Out = codec.AppendPub(conn.Out, topic, p.body)
	}
	p.owed = append(p.owed, []ledger.Key{key})
}
