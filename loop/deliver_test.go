package loop

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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
	require.Less(t, time.Since(published), 2*time.Second)
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

// One loop and one message after the other: consumers take turns.
func TestConsumersTakeTurns(t *testing.T) {
	s := serve(t, nil)
	l := idleLoop(s)
	topic := l.warmTopic(t, "t")
	const consumers, messages = 4, 40
	var peers []*client
	var conns []*conn
	for range consumers {
		c, peer := l.connect(t)
		l.readable(c, []byte(codec.MagicV2+"SUB t ch\nRDY 100\n"))
		peer.wantOK()
		peers, conns = append(peers, peer), append(conns, c)
	}
	for range messages {
		_, err := topic.PublishWait([][]byte{[]byte("x")})
		require.NoError(t, err)
		l.turn()
	}
	for i, c := range conns {
		require.Equal(t, messages/consumers, c.cons.InFlight(), "consumer %d", i)
		peers[i].message()
	}
}

// A run that is cut off by the end of its connection: only what was at least begun counts as delivered. Both for runs
// that lie in the log and for runs of redelivered messages, and whether the cut is in the first write or in a later one.
func TestUnwrittenMessagesCostNoAttempt(t *testing.T) {
	for _, redelivered := range []bool{false, true} {
		for _, later := range []bool{false, true} {
			t.Run(fmt.Sprintf("redelivered %t later %t", redelivered, later), func(t *testing.T) {
				s := serve(t, nil)
				l := idleLoop(s)
				topic := l.warmTopic(t, "t")
				const messages = 20
				bodies := make([][]byte, messages)
				for i := range bodies {
					bodies[i] = fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 2000))
				}
				_, err := topic.PublishWait(bodies)
				require.NoError(t, err)
				attempts := uint16(1)
				if redelivered {
					first, peer := l.connect(t)
					l.readable(first, []byte(codec.MagicV2+"SUB t ch\nRDY 2500\n"))
					peer.wantOK()
					for range messages {
						peer.message()
					}
					l.closeConn(first)
					attempts++
				}
				slow, peer := l.connect(t)
				l.readable(slow, []byte(codec.MagicV2+"SUB t ch\n"))
				peer.wantOK()
				require.NoError(t, unix.SetsockoptInt(slow.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
				l.readable(slow, []byte("RDY 2500\n"))
				require.NotNil(t, slow.held)
				require.Equal(t, messages, slow.cons.InFlight())
				if later {
					first := slow.held.sent
					peer.message()
					peer.buf = nil
					slow.flushOutput()
					require.Greater(t, slow.held.sent, first)
				}
				size := codec.MessageHeader + len(bodies[9])
				begun := (slow.held.sent + size - 1) / size
				require.Less(t, begun, messages)

				// Another consumer's claim in between must not spoil what the first one holds.
				other, peer2 := l.connect(t)
				l.readable(other, []byte(codec.MagicV2+"SUB t ch\nRDY 1\n"))
				peer2.wantOK()
				_, err = topic.PublishWait([][]byte{[]byte("another")})
				require.NoError(t, err)
				l.turn()
				m := peer2.message()
				l.readable(other, codec.AppendReq(nil, m.ID, 0))
				m = peer2.message()
				require.EqualValues(t, 2, m.Attempts)
				l.readable(other, codec.AppendFin([]byte("RDY 0\n"), m.ID))
				require.Zero(t, other.cons.InFlight())

				l.closeConn(slow)
				time.Sleep(250 * time.Millisecond) // those that were delivered before come back with a delay
				l.readable(other, []byte("RDY 2500\n"))
				for got := map[string]bool{}; len(got) < messages; l.turn() {
					m := peer2.message()
					var n int
					_, err := fmt.Sscan(string(m.Body[:3]), &n)
					require.NoError(t, err)
					require.Equal(t, string(bodies[n]), string(m.Body))
					want := attempts
					if n < begun {
						want++
					}
					require.Equal(t, want, m.Attempts, "message %d of which %d were begun", n, begun)
					got[string(m.ID)] = true
				}
			})
		}
	}
}

// A held run arrives whole when the client reads at last, from the log as from a copy.
func TestHeldRunArrivesWhole(t *testing.T) {
	s := serve(t, nil)
	l := idleLoop(s)
	topic := l.warmTopic(t, "t")
	const messages = 30
	for i := range messages {
		_, err := topic.PublishWait([][]byte{fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", 100+97*i))})
		require.NoError(t, err)
	}
	first, peer := l.connect(t)
	l.readable(first, []byte(codec.MagicV2+"SUB t ch\nRDY 2500\n"))
	peer.wantOK()
	for range messages {
		m := peer.message()
		l.readable(first, codec.AppendReq(nil, m.ID, 0))
	}
	l.closeConn(first)
	c, peer := l.connect(t)
	l.readable(c, []byte(codec.MagicV2+"SUB t ch\n"))
	peer.wantOK()
	stuffing := stuff(t, c)
	l.readable(c, []byte("RDY 2500\n"))
	require.NotNil(t, c.held)
	require.NotEmpty(t, c.held.block, "redelivered messages lie in scratch memory")
	l.readable(c, []byte("CLS\n"))
	peer.skip(stuffing)
	done := make(chan struct{})
	inFlight := c.cons.InFlight()
	go func() { // the client reads
		defer close(done)
		for i := range inFlight {
			m := peer.message()
			want := fmt.Sprintf("%d %s", i, strings.Repeat("x", 100+97*i))
			if string(m.Body) != want || m.Attempts < 2 {
				t.Errorf("message %d: attempt %d of %.10s", i, m.Attempts, m.Body)
			}
		}
		peer.wantResponse("CLOSE_WAIT")
	}()
	for c.unsent() {
		l.now += 16e6
		c.flushOutput()
	}
	<-done
}

// A consumer in the middle of a run that closes its half is gone: nothing is kept for it.
func TestHalfCloseOfAStuckConsumer(t *testing.T) {
	s := serveWith(t, mmapq.SyncInterval, func(o *Options) { o.Limits.MaxMsgSize = 8 << 20 }, smallSockets)
	p, slow := s.connect(), s.connectSmall()
	slow.subscribe("t", "ch", 2500)
	p.publish("t", strings.Repeat("x", 6<<20)) // far more than the sockets hold
	l := s.loops[0]
	eventually(t, "stuck", func() (stuck bool) {
		inLoop(t, l, func() {
			for c := l.all.first; c != nil; c = l.all.after(c) {
				stuck = stuck || c.held != nil
			}
		})
		return stuck
	})
	require.NoError(t, slow.Conn.(interface{ CloseWrite() error }).CloseWrite())
	eventually(t, "closed", func() bool { return s.Counters().Open == 1 })
}

// Message after message between two loops: a wake-up that falls between "nothing there" and going to sleep is not lost.
func TestNoWakeUpIsLost(t *testing.T) {
	s := serve(t, func(o *Options) { o.Loops = 2 })
	p, c := s.connect(), s.connect()
	p.publish("t", "warm up")
	c.subscribe("t", "ch", 1)
	m := c.message()
	one := codec.AppendPub(nil, "t", []byte("x"))
	for range 10_000 {
		c.fin(m) // its loop looks for another message while the other loop publishes one
		p.sendBytes(one)
		m = c.message()
		if _, data, err := p.next(); err != nil || string(data) != "OK" {
			t.Fatalf("%q %v", data, err)
		}
	}
}

// Claiming, writing and finishing cost no allocation per message.
func TestDeliverAllocations(t *testing.T) {
	s := serve(t, nil)
	l := idleLoop(s)
	c, peer := l.connect(t)
	topic := l.warmTopic(t, "t")
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
		l.turn()
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
