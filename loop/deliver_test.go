package loop

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

func TestPublishConsumeFinish(t *testing.T) {
	s := serve(t, nil)
	p := s.connect()
	p.publish("t", "one")
	c := s.connect()
	c.subscribe("t", "ch", 1)
	m := c.message()
	require.Equal(t, "one", string(m.Body))
	require.EqualValues(t, 1, m.Attempts)
	p.publish("t", "two", "three")
	c.wantSilence() // RDY 1 and one in flight
	c.fin(m)
	m = c.message()
	require.Equal(t, "two", string(m.Body))
	c.fin(m)
	require.Equal(t, "three", string(c.message().Body))
}

// RDY is a level: what is in flight counts against it, sending it again gives nothing.
func TestReadyIsALevel(t *testing.T) {
	s := serve(t, nil)
	p, c := s.connect(), s.connect()
	c.subscribe("t", "ch", 0)
	c.wantSilence()
	p.publish("t", "1", "2", "3", "4", "5", "6")
	c.wantSilence()
	c.send("RDY 2\n")
	first, second := c.message(), c.message()
	c.send("RDY 2\n")
	c.wantSilence()
	c.send("RDY 3\n")
	third := c.message()
	c.send("RDY 1\n")
	c.fin(first)
	c.fin(second)
	c.wantSilence() // one in flight, RDY 1
	c.fin(third)
	require.Equal(t, "4", string(c.message().Body))
	c.wantSilence()
}

func TestRequeueAndTouch(t *testing.T) {
	s := serve(t, nil)
	p, c := s.connect(), s.connect()
	c.subscribe("t", "ch", 1)
	p.publish("t", "x")
	m := c.message()
	c.sendBytes(codec.AppendReq(nil, m.ID, 0))
	again := c.message()
	require.Equal(t, m.ID, again.ID)
	require.EqualValues(t, 2, again.Attempts)
	c.sendBytes(codec.AppendTouch(nil, again.ID))
	c.wantSilence()
	before := time.Now()
	c.sendBytes(codec.AppendReq(nil, again.ID, 80*time.Millisecond))
	again = c.message()
	require.GreaterOrEqual(t, time.Since(before), 80*time.Millisecond)
	require.EqualValues(t, 3, again.Attempts)
	c.fin(again)
	c.fin(again)
	c.wantError(fmt.Sprintf("E_FIN_FAILED FIN %s failed ID not in flight", again.ID))
	for _, cmd := range []string{"REQ %s 0\n", "TOUCH %s\n"} {
		c.send(fmt.Sprintf(cmd, again.ID))
		verb, _, _ := strings.Cut(cmd, " ")
		c.wantError(fmt.Sprintf("E_%s_FAILED %s %s failed ID not in flight", verb, verb, again.ID))
	}
}

func TestNotOwner(t *testing.T) {
	s := serve(t, nil)
	p, c, other := s.connect(), s.connect(), s.connect()
	c.subscribe("t", "ch", 1)
	p.publish("t", "x")
	m := c.message()
	other.subscribe("t", "ch", 1)
	other.fin(m)
	other.wantError(fmt.Sprintf("E_FIN_FAILED FIN %s failed client does not own message", m.ID))
	c.fin(m)
	c.wantSilence()
}

// What a consumer does not finish in time goes to somebody else; so does, at once, what a lost connection held.
func TestTimeoutAndDisconnect(t *testing.T) {
	s := serve(t, func(o *Options) { o.Identify.MsgTimeout = 60 * time.Millisecond })
	p, slow := s.connect(), s.connect()
	slow.subscribe("t", "ch", 1)
	published := time.Now()
	p.publish("t", "x")
	require.EqualValues(t, 1, slow.message().Attempts)
	m := slow.message()
	require.EqualValues(t, 2, m.Attempts)
	require.GreaterOrEqual(t, time.Since(published), 60*time.Millisecond)
	slow.fin(m)

	p.publish("t", "y")
	slow.message()
	other := s.connect()
	other.subscribe("t", "ch", 1)
	require.NoError(t, slow.Close())
	m = other.message()
	require.Equal(t, "y", string(m.Body))
	require.EqualValues(t, 2, m.Attempts)
}

// Touching keeps a message longer than its timeout.
func TestTouchDefersTimeout(t *testing.T) {
	s := serve(t, func(o *Options) { o.Identify.MsgTimeout = 100 * time.Millisecond })
	p, c := s.connect(), s.connect()
	c.subscribe("t", "ch", 5)
	p.publish("t", "x")
	m := c.message()
	for start := time.Now(); time.Since(start) < 250*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		c.sendBytes(codec.AppendTouch(nil, m.ID))
	}
	c.wantSilence() // no second delivery, no failed TOUCH
	c.fin(m)
	c.wantSilence()
}

func TestCloseWait(t *testing.T) {
	s := serve(t, nil)
	p, c := s.connect(), s.connect()
	c.subscribe("t", "ch", 1)
	p.publish("t", "1", "2")
	m := c.message()
	c.send("CLS\n")
	c.wantResponse("CLOSE_WAIT")
	c.send("RDY 100\nRDY x\n") // ignored
	c.fin(m)
	c.wantSilence()
	c.send("CLS\n")
	c.wantError("E_INVALID cannot CLS in current state")
	c.wantClosed()
}

func TestPauseEmptyAndDeleteChannel(t *testing.T) {
	s := serve(t, nil)
	p, c := s.connect(), s.connect()
	c.subscribe("t", "ch", 2)
	c.wantSilence()
	ch := s.broker.LookupTopic("t").LookupChannel("ch")
	require.NoError(t, ch.SetPaused(true))
	p.publish("t", "1", "2", "3", "4")
	c.wantSilence()
	require.NoError(t, ch.SetPaused(false))
	m := c.message()
	c.message()
	c.wantSilence()
	require.NoError(t, ch.Empty()) // credit is back, everything is gone
	p.publish("t", "5")
	require.Equal(t, "5", string(c.message().Body))
	c.fin(m)
	c.wantError(fmt.Sprintf("E_FIN_FAILED FIN %s failed ID not in flight", m.ID))
	_, err := s.broker.LookupTopic("t").DeleteChannel("ch")
	require.NoError(t, err)
	c.wantClosed()
	p.publish("t", "the producer stays")
	_, err = s.broker.DeleteTopic("t")
	require.NoError(t, err)
	p.publish("t", "and makes the topic anew")
}

// sink reads everything a consumer gets, finishes it, and counts.
func (c *client) drainMessages(n int, got func(codec.Message)) {
	c.t.Helper()
	var fins []byte
	for i := 0; i < n; i++ {
		m := c.message()
		got(m)
		if fins = codec.AppendFin(fins, m.ID); len(c.buf) == 0 || i == n-1 {
			c.sendBytes(fins)
			fins = fins[:0]
		}
	}
}

// Several loops, producers and consumers on each: every message arrives exactly once on every channel.
func TestManyLoopsManyClients(t *testing.T) {
	const producers, perProducer, consumers = 4, 2000, 3
	s := serve(t, func(o *Options) { o.Loops = 3 })
	var producing sync.WaitGroup
	for _, channel := range []string{"a", "b"} {
		var wg sync.WaitGroup
		seen := make(map[string]int)
		var mu sync.Mutex
		done := make(chan struct{})
		var clients []*client
		for range consumers {
			c := s.connect()
			c.subscribe("t", channel, 100)
			clients = append(clients, c)
		}
		for _, c := range clients {
			wg.Go(func() {
				for {
					frameType, data, err := c.next()
					if err != nil {
						return
					}
					m, ok := codec.ParseMessage(data)
					if frameType != codec.FrameMessage || !ok {
						t.Errorf("unexpected frame %q", data)
						return
					}
					if _, err := c.Write(codec.AppendFin(nil, m.ID)); err != nil {
						return
					}
					mu.Lock()
					seen[string(m.Body)]++
					if len(seen) == producers*perProducer {
						select {
						case <-done:
						default:
							close(done)
						}
					}
					mu.Unlock()
				}
			})
		}
		defer func() {
			select {
			case <-done:
			case <-time.After(patience):
				t.Errorf("channel %s: %d of %d", channel, len(seen), producers*perProducer)
			}
			for _, c := range clients {
				_ = c.Close()
			}
			wg.Wait()
			for body, n := range seen {
				require.Equal(t, 1, n, body)
			}
		}()
	}
	for i := range producers {
		p := s.connect()
		producing.Go(func() {
			for k := 0; k < perProducer; k += 20 {
				var out []byte
				for j := range 20 {
					out = codec.AppendPub(out, "t", fmt.Appendf(nil, "%d-%d", i, k+j))
				}
				if _, err := p.Write(out); err != nil {
					t.Error(err)
					return
				}
				for range 20 {
					if _, data, err := p.next(); err != nil || string(data) != "OK" {
						t.Errorf("%q %v", data, err)
						return
					}
				}
			}
		})
	}
	producing.Wait()
}

// A consumer that takes nothing holds back nobody else, keeps no copy of what it does not take, and gets every byte in
// order when it reads again.
func TestSlowConsumer(t *testing.T) {
	s := serveWith(t, mmapq.SyncInterval, nil, smallSockets)
	p, slow, fast := s.connect(), s.connectSmall(), s.connect()
	slow.subscribe("t", "slow", 2500)
	fast.subscribe("t", "fast", 100)
	body := strings.Repeat("x", 10_000)
	const messages = 500 // 5 MB: more than the sockets hold
	go func() {
		for i := range messages {
			if _, err := p.Write(codec.AppendPub(nil, "t", fmt.Appendf(nil, "%d %s", i, body))); err != nil {
				return
			}
		}
	}()
	fast.drainMessages(messages, func(codec.Message) {})
	l := s.loops[0]
	var held, control, copied int
	inLoop(t, l, func() {
		for c := l.all.first; c != nil; c = l.all.after(c) {
			if c.held != nil {
				held++
				copied += cap(c.held.block)
			}
			control += len(c.control)
		}
	})
	require.Equal(t, 1, held, "the slow consumer is stuck in the middle of a run")
	require.Zero(t, copied, "nothing is copied")
	require.Zero(t, control)
	next := 0
	slow.drainMessages(messages, func(m codec.Message) {
		require.Equal(t, fmt.Sprintf("%d %s", next, body), string(m.Body))
		next++
	})
}

// A run that is cut off by the end of its connection: what was not written is delivered elsewhere without an attempt.
func TestUnwrittenMessagesCostNoAttempt(t *testing.T) {
	s := serveWith(t, mmapq.SyncInterval, nil, smallSockets)
	p, slow := s.connect(), s.connectSmall()
	body := strings.Repeat("x", 100_000)
	slow.subscribe("t", "ch", 2500)
	const messages = 40
	for range messages {
		p.publish("t", body)
	}
	l := s.loops[0]
	eventually(t, "stuck", func() (stuck bool) {
		inLoop(t, l, func() {
			for c := l.all.first; c != nil; c = l.all.after(c) {
				stuck = stuck || c.held != nil
			}
		})
		return stuck
	})
	require.NoError(t, slow.Close())
	c := s.connect()
	c.subscribe("t", "ch", 2500)
	var attempts [3]int
	for range messages {
		m := c.message()
		attempts[m.Attempts]++
		c.fin(m)
	}
	require.NotZero(t, attempts[1])
	require.NotZero(t, attempts[2])
}

// Claiming, writing and finishing cost no allocation per message.
func TestDeliverAllocations(t *testing.T) {
	s := serve(t, nil)
	l := idleLoop(s)
	c, peer := l.connect(t)
	topic, err := s.broker.Topic([]byte("t"))
	require.NoError(t, err)
	l.readable(c, []byte(codec.MagicV2+"SUB t ch\nRDY 2500\n"))
	peer.wantOK()
	const messages = 200
	bodies := make([][]byte, messages)
	for i := range bodies {
		bodies[i] = make([]byte, 200)
	}
	size := messages * (codec.MessageHeader + 200)
	in := make([]byte, 1<<20)
	fins := make([]byte, 0, 1<<20)
	pass := func() {
		if _, err := topic.PublishWait(bodies); err != nil {
			t.Fatal(err)
		}
		l.rung()
		l.resumed()
		have := 0
		for have < size {
			n, err := peer.Read(in[have:])
			if err != nil {
				t.Fatal(err)
			}
			have += n
			l.now += 1e9
			c.flushOutput()
			c.settle()
		}
		fins = fins[:0]
		for p := in[:have]; len(p) > 0; {
			_, data, n, _ := codec.SplitFrame(p)
			m, _ := codec.ParseMessage(data)
			fins, p = codec.AppendFin(fins, m.ID), p[n:]
		}
		l.readable(c, fins)
	}
	pass()
	allocs := testing.AllocsPerRun(50, pass)
	require.Less(t, allocs, 10.0, "per %d messages", messages)
	require.Zero(t, c.cons.InFlight())
}
