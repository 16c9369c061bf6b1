package loop

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

// single is a producer and a consumer on one loop that handle one message after the other.
type single struct {
	t                  testing.TB
	l                  bench
	producer, consumer *conn
	from, to           *client // their peers
	pub, fin, in       []byte
}

func newSingle(t testing.TB) *single {
	s := &single{t: t, l: idleLoop(serve(t, nil)), in: make([]byte, 64<<10)}
	s.l.warmTopic(t, "t")
	s.producer, s.from = s.l.connect(t)
	s.consumer, s.to = s.l.connect(t)
	s.l.readable(s.producer, []byte(codec.MagicV2))
	s.l.readable(s.consumer, []byte(codec.MagicV2+"SUB t ch\nRDY 1\n"))
	s.to.wantOK()
	s.pub = codec.AppendPub(nil, "t", make([]byte, 200))
	return s
}

// read takes size bytes that the loop has written, or is about to write.
func (s *single) read(from *client, size int) []byte {
	for have := 0; have < size; {
		n, err := from.Read(s.in[have:size])
		if err != nil {
			s.t.Fatal(err)
		}
		have += n
	}
	return s.in[:size]
}

// pass is the life of one message.
func (s *single) pass() {
	s.l.now += 1e3
	s.l.readable(s.producer, s.pub)
	for s.producer.job != nil { // no segment was prepared: another goroutine appends
		s.l.turn()
	}
	s.read(s.from, len(codec.FrameOK))
	s.l.turn()
	frame := s.read(s.to, codec.MessageHeader+200)
	s.fin = codec.AppendFin(s.fin[:0], frame[codec.MessageIDAt:codec.MessageIDAt+codec.IDLen])
	s.l.readable(s.consumer, s.fin)
}

// Where every message comes alone nothing is shared by a batch: reading, appending, OK, claim, delivery and FIN all allocate nothing.
func TestOneMessageAllocatesNothing(t *testing.T) {
	s := newSingle(t)
	for range 100 { // maps and buffers grow to their size
		s.pass()
	}
	require.Zero(t, testing.AllocsPerRun(1000, s.pass))
	require.Zero(t, s.consumer.cons.InFlight())
}

// BenchmarkOneMessage is the life of a message that comes alone, over two socket pairs, the test's own reads and writes included.
func BenchmarkOneMessage(b *testing.B) {
	s := newSingle(b)
	s.pass()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s.pass()
	}
}
