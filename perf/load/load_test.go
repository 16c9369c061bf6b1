package load

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker counts what it is sent and answers as told.
type broker struct {
	t        *testing.T
	listener net.Listener
	running  sync.WaitGroup

	toSend int           // messages given to each consumer at RDY
	frame  []byte        // how each of them looks
	refuse bool          // the second publish of a connection is answered with an error
	halved bool          // replies leave in two writes each
	pause  time.Duration // how long the tenth publish has to wait for its answer

	mu         sync.Mutex
	messages   int
	batches    map[int]int // MPUBs by their number of messages
	fins       map[uint64]int
	nops       int
	first      []byte // body of the first publish
	waitingMax int    // most publishes found in one read
}

func newBroker(t *testing.T) *broker {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &broker{t: t, listener: listener, batches: map[int]int{}, fins: map[uint64]int{}}
	b.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() { require.NoError(t, listener.Close()); b.running.Wait() })
	return b
}

func (b *broker) addr() string { return b.listener.Addr().String() }

func (b *broker) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	limits := codec.DefaultLimits()
	var splitter codec.Splitter
	splitter.Init(&limits)
	session := &session{broker: b, conn: conn}
	in, have := make([]byte, 1<<20), 0
	for magic := true; ; {
		n, err := conn.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		used := 0
		if magic {
			used, magic = len(codec.MagicV2), false
		}
		session.waiting = 0
		for {
			n, ok, refused := splitter.Next(in[used:have], codec.Policy{State: session.state}, &session.command)
			if refused != nil {
				b.t.Error(refused)
				return
			}
			if !ok {
				break
			}
			used += n
			session.execute()
		}
		b.mu.Lock()
		b.waitingMax = max(b.waitingMax, session.waiting)
		b.mu.Unlock()
		have = copy(in, in[used:have])
		if session.stall > 0 {
			time.Sleep(session.stall)
			session.stall = 0
		}
		half := 0
		if b.halved {
			half = len(session.out) / 2
		}
		for _, part := range [][]byte{session.out[:half], session.out[half:]} {
			if _, err := conn.Write(part); err != nil {
				return
			}
		}
		session.out = session.out[:0]
	}
}

// session is one connection of broker.
type session struct {
	*broker
	conn      net.Conn
	state     codec.State
	command   codec.Command
	out       []byte
	waiting   int
	published int
	stall     time.Duration // before the next answers
}

func (s *session) execute() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.command.Kind {
	case codec.KindPub, codec.KindMpub:
		n := 1
		if s.command.Kind == codec.KindMpub {
			n = len(s.command.Bodies)
			s.batches[n]++
		}
		if s.messages += n; s.messages == 1 {
			s.first = bytes.Clone(s.command.Body)
		}
		if s.messages == 10 {
			s.stall = s.pause
		}
		s.waiting++
		if s.published++; s.refuse && s.published == 2 {
			s.out = codec.AppendError(s.out, &codec.Error{Code: "E_PUB_FAILED", Desc: "PUB failed no room"})
			return
		}
		s.out = append(s.out, codec.FrameOK...)
	case codec.KindIdentify:
		s.out = append(s.out, codec.FrameOK...)
	case codec.KindSub:
		s.state = codec.StateSubscribed
		s.out = append(s.out, codec.FrameOK...)
	case codec.KindRdy:
		s.out = append(s.out, codec.FrameHeartbeat...)
		for i := range s.toSend {
			start := len(s.out)
			s.out = append(s.out, s.frame...)
			codec.PutMessageHeader(s.out[start:], len(s.frame)-codec.MessageHeader, 1, 1, uint64(i))
		}
	case codec.KindFin:
		id, ok := codec.ParseID(s.command.ID)
		if !ok {
			s.t.Error("FIN of a bad id")
		}
		s.fins[id]++
	case codec.KindNop:
		s.nops++
	case codec.KindCls:
		s.out = append(s.out, codec.FrameCloseWait...)
	}
}

func publish(b *broker, p Publisher) error {
	p.Addr, p.Topic = b.addr(), "t"
	prepared, err := p.Prepare(context.Background())
	require.NoError(b.t, err)
	defer prepared.Close()
	return prepared.Run(context.Background())
}

func TestPublishersSendExactlyWhatTheyShould(t *testing.T) {
	for _, halved := range []bool{false, true} {
		for _, p := range []Publisher{
			{Conns: 1, Messages: 1, Size: 1, Window: 1},
			{Conns: 3, Messages: 1000, Size: 200, Window: 1},
			{Conns: 3, Messages: 5000, Size: 200, Window: 64},
			{Conns: 2, Messages: 999, Size: 200, Window: 64, Batch: 10},
			{Conns: 4, Messages: 40000, Size: 200, Window: 3, Batch: 200},
			{Conns: 2, Messages: 5, Size: 10, Window: 1, Batch: 200},
			{Conns: 1, Messages: 12000, Size: 1000, Window: 500}, // more than the pool holds
		} {
			b := newBroker(t)
			b.halved = halved
			require.NoError(t, publish(b, p), "%+v", p)
			b.mu.Lock()
			require.Equal(t, p.Messages, b.messages, "%+v", p)
			require.LessOrEqual(t, b.waitingMax, p.Window)
			if p.Batch == 200 && p.Messages == 40000 {
				require.Equal(t, map[int]int{200: 200}, b.batches)
			}
			b.mu.Unlock()
		}
	}
}

func TestPublisherFailsOnAnError(t *testing.T) {
	for _, window := range []int{1, 8} {
		b := newBroker(t)
		b.refuse = true
		err := publish(b, Publisher{Conns: 2, Messages: 100, Size: 10, Window: window})
		require.ErrorContains(t, err, "E_PUB_FAILED")
	}
}

func consume(b *broker, c Consumer) error {
	c.Addr, c.Topic, c.Channel = b.addr(), "t", "c"
	consuming, err := c.Prepare(context.Background())
	require.NoError(b.t, err)
	defer consuming.Close()
	return consuming.Run(context.Background())
}

func TestConsumersFinishEverything(t *testing.T) {
	for _, each := range []bool{false, true} {
		b := newBroker(t)
		b.toSend, b.frame = 5000, make([]byte, codec.MessageHeader+300)
		require.NoError(t, consume(b, Consumer{Conns: 2, Messages: 10000, Size: 300, RDY: 100, WriteEachFIN: each}))
		b.mu.Lock()
		require.Len(t, b.fins, 5000)
		for id, n := range b.fins {
			require.Equal(t, 2, n, id)
		}
		b.mu.Unlock()
	}
}

func TestConsumerFailsOnWrongMessages(t *testing.T) {
	b := newBroker(t)
	b.toSend, b.frame = 10, make([]byte, codec.MessageHeader+300)
	require.ErrorContains(t, consume(b, Consumer{Conns: 1, Messages: 10, Size: 299, RDY: 1}), "a message frame has 334 bytes")
	require.ErrorContains(t, consume(b, Consumer{Conns: 1, Messages: 9, Size: 300, RDY: 1}), "10 messages came instead of 9")
}

// A broker that falls silent must not hold the load for ever.
func TestRunEndsWithItsContext(t *testing.T) {
	b := newBroker(t)
	consuming, err := Consumer{Addr: b.addr(), Topic: "t", Channel: "c", Conns: 2, Messages: 1, Size: 1, RDY: 1}.Prepare(context.Background())
	require.NoError(t, err)
	defer consuming.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.Error(t, consuming.Run(ctx))
}
