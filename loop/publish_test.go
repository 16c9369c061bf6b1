package loop

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
)

// gate lets callers through while it is open, and can make what it guards fail.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open
	err    error
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

// open lets everybody pass, with err.
func (g *gate) open(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
	}
	g.closed, g.err = nil, err
}

func (g *gate) pass() error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		<-closed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// gatedDisk is a disk whose new segments and whose syncs can be held up.
type gatedDisk struct {
	*mmapq.HeapDisk
	create, sync gate
}

func (d *gatedDisk) CreateMapped(name string, size int) (*mmapq.Mapping, error) {
	if err := d.create.pass(); err != nil {
		return nil, err
	}
	return d.HeapDisk.CreateMapped(name, size)
}

func (d *gatedDisk) SyncDir() error { return d.sync.pass() }

func (d *gatedDisk) OpenFile(name string, create bool) (mmapq.File, error) {
	f, err := d.HeapDisk.OpenFile(name, create)
	return gatedFile{f, &d.sync}, err
}

type gatedFile struct {
	mmapq.File
	sync *gate
}

func (f gatedFile) Sync() error { return f.sync.pass() }

// serveGated serves with one segment size for everything, so that the spares are counted.
func serveGated(t *testing.T, sync mmapq.SyncPolicy) (*testServer, *gatedDisk) {
	d := &gatedDisk{HeapDisk: mmapq.NewHeapDisk()}
	b := openBroker(t, d, sync)
	s := serveOn(t, b, nil, nil)
	t.Cleanup(func() { // before the server stops
		d.create.open(nil)
		d.sync.open(nil)
	})
	return s, d
}

// A batch of one read: several topics, several kinds, answers in the order of the commands.
func TestAnswersInOrder(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	c.send("SUB x ch\n")
	c.wantOK()
	var in []byte
	var want []string
	for i := range 300 {
		topic := fmt.Sprintf("t%d", i%7)
		body := fmt.Appendf(nil, "%d", i)
		ok := "OK"
		switch i % 10 {
		case 3:
			in = codec.AppendMpub(in, topic, [][]byte{body, body})
		case 5:
			in = codec.AppendDpub(in, topic, time.Hour, body)
		case 7:
			id := fmt.Sprintf("%016x", i)
			in = codec.AppendFin(in, []byte(id))
			ok = fmt.Sprintf("E_FIN_FAILED FIN %s failed ID not in flight", id)
		default:
			in = codec.AppendPub(in, topic, body)
		}
		want = append(want, ok)
	}
	in = append(in, "PUB !\n"...)
	want = append(want, `E_BAD_TOPIC PUB topic name "!" is not valid`)
	in = codec.AppendPub(in, "never", []byte("x"))
	c.sendBytes(in)
	for _, answer := range want {
		_, got := c.frame()
		require.Equal(t, answer, got)
	}
	c.wantClosed()
	require.Nil(t, s.broker.LookupTopic("never"), "nothing behind a fatal error is executed")
	var published uint64
	for _, topic := range s.broker.Topics() {
		published += topic.Stats().MessageCount
	}
	require.EqualValues(t, 30*9+30, published) // of ten: six PUB, one MPUB of two, one DPUB, and one PUB more
}

// PUB before SUB in one read: the new channel starts behind it unless it is the first.
func TestPublishBeforeSubscribeInOneRead(t *testing.T) {
	s := serve(t, nil)
	first := s.connect()
	first.send("SUB t first\n")
	first.wantOK()
	c := s.connect()
	in := codec.AppendPub(nil, "t", []byte("before"))
	in = codec.AppendSub(in, "t", "second")
	in = codec.AppendPub(in, "t", []byte("after"))
	in = codec.AppendRdy(in, 10)
	c.sendBytes(in)
	for range 3 {
		c.wantOK()
	}
	require.Equal(t, "after", string(c.message().Body))
}

// No segment is at hand: the connection waits, others do not, order and answers stay right.
func TestPublishThatWaitsForTheDisk(t *testing.T) {
	s, d := serveGated(t, mmapq.SyncInterval)
	c := s.connect()
	d.create.shut()
	// One read of more than all prepared segments hold, in three kinds, a non-fatal error and a fatal one behind.
	body := strings.Repeat("x", 100_000)
	var in []byte
	in = codec.AppendSub(in, "other", "ch")
	const rounds = 40
	for i := range rounds {
		in = codec.AppendPub(in, "t", fmt.Appendf(nil, "%d-pub %s", i, body))
		in = codec.AppendMpub(in, "t", [][]byte{fmt.Appendf(nil, "%d-mpub %s", i, body), fmt.Appendf(nil, "%d-mpub2", i)})
		in = append(in, "FIN 0123456789abcdef\n"...)
		in = codec.AppendDpub(in, "t", 0, fmt.Appendf(nil, "%d-dpub", i))
		in = codec.AppendPub(in, "t", fmt.Appendf(nil, "%d-small", i))
		in = append(in, "FIN 0123456789abcdef\n"...)
	}
	in = append(in, "BYE\n"...)
	go func() { _, _ = c.Write(in) }()
	eventually(t, "paused", func() (paused bool) {
		inLoop(t, s.loops[0], func() {
			for c := s.loops[0].all.first; c != nil; c = s.loops[0].all.after(c) {
				paused = paused || c.paused&pausePublish != 0
			}
		})
		return paused
	})
	other := s.connect()
	require.Equal(t, "OK", other.identify(`{}`), "others go on")
	require.NoError(t, other.Close())

	d.create.open(nil)
	c.wantOK()
	for range rounds {
		c.wantOK()
		c.wantOK()
		c.wantError("E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight")
		c.wantOK()
		c.wantOK()
		c.wantError("E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight")
	}
	c.wantError("E_INVALID invalid command BYE")
	c.wantClosed()

	c = s.connect()
	c.subscribe("t", "ch", 2500)
	for i := range rounds {
		for _, kind := range []string{"pub", "mpub", "mpub2", "dpub", "small"} {
			got, _, _ := strings.Cut(string(c.message().Body), " ")
			require.Equal(t, fmt.Sprintf("%d-%s", i, kind), got)
		}
	}
}

// The client closes its half while its publish still waits: the answer reaches it all the same.
func TestHalfCloseWhilePublishing(t *testing.T) {
	s, d := serveGated(t, mmapq.SyncInterval)
	d.create.shut()
	c := s.connect()
	in := codec.AppendPub(nil, "t", []byte("x"))
	in = append(in, "PUB t\n\x00\x00\x00\x09x"...)
	c.sendBytes(in)
	l := s.loops[0]
	eventually(t, "waiting", func() (waiting bool) {
		inLoop(t, l, func() { waiting = l.all.first != nil && l.all.first.job != nil })
		return waiting
	})
	require.NoError(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
	d.create.open(nil)
	c.wantOK()
	c.wantError("E_BAD_MESSAGE PUB failed to read message body")
	c.wantClosed()
}

// Under sync policy always the OK waits for the sync, and the connection is read on meanwhile.
func TestAnswersWaitForTheSync(t *testing.T) {
	s, d := serveGated(t, mmapq.SyncAlways)
	p := s.connect()
	p.publish("t", "warm up")
	d.sync.shut()
	p.sendBytes(codec.AppendPub(nil, "new", []byte("x")))
	var topic *fanout.Topic
	eventually(t, "published", func() bool {
		topic = s.broker.LookupTopic("new")
		return topic != nil && topic.Stats().MessageCount == 1
	})
	p.sendBytes(codec.AppendPub(nil, "new", []byte("y")))
	p.send("PUB new\n\x00\x00\x00\x00")
	eventually(t, "published", func() bool { return topic.Stats().MessageCount == 2 })
	l := s.loops[0]
	inLoop(t, l, func() {
		if l.waiting.size != 1 {
			t.Error("nobody waits")
		}
	})
	d.sync.open(nil)
	p.wantOK()
	p.wantOK()
	p.wantError("E_BAD_MESSAGE PUB invalid message body size 0")
	p.wantClosed()
}

// Half closed before the sync is done, a client still gets its answers.
func TestHalfCloseBeforeTheSync(t *testing.T) {
	s, d := serveGated(t, mmapq.SyncAlways)
	p := s.connect()
	p.publish("t", "warm up")
	d.sync.shut()
	p.sendBytes(codec.AppendPub(nil, "new", []byte("x")))
	require.NoError(t, p.Conn.(interface{ CloseWrite() error }).CloseWrite())
	l := s.loops[0]
	eventually(t, "detached", func() (detached bool) {
		inLoop(t, l, func() { _, detached = l.all.first.sock.(lastWords) })
		return detached
	})
	d.sync.open(nil)
	p.wantOK()
	p.wantClosed()
}

// A sync that fails: no OK, and nothing behind it.
func TestFailedSync(t *testing.T) {
	s, d := serveGated(t, mmapq.SyncAlways)
	s.diskBroken = true
	p := s.connect()
	p.publish("t", "warm up")
	d.sync.shut()
	p.sendBytes(codec.AppendPub(codec.AppendPub(nil, "new", []byte("x")), "new", []byte("y")))
	p.sendBytes(codec.AppendPub(nil, "t", []byte("z")))
	d.sync.open(errors.New("disk is gone"))
	frameType, data := p.frame()
	require.EqualValues(t, codec.FrameError, frameType)
	require.Contains(t, data, "E_PUB_FAILED PUB failed ")
	require.Contains(t, data, "disk is gone")
	p.wantClosed()
}

// A topic that was deleted while a loop knew it is made anew by the next publish, of each kind.
func TestPublishToADeletedTopic(t *testing.T) {
	s := serve(t, nil)
	p := s.connect()
	for _, publish := range [][]byte{
		codec.AppendPub(nil, "t", []byte("x")),
		codec.AppendMpub(nil, "t", [][]byte{[]byte("x"), []byte("y")}),
		codec.AppendDpub(nil, "t", time.Hour, []byte("x")),
	} {
		p.publish("t", "x")
		deleted, err := s.broker.DeleteTopic("t")
		require.NoError(t, err)
		require.True(t, deleted)
		p.sendBytes(publish)
		p.wantOK()
		require.NotNil(t, s.broker.LookupTopic("t"))
	}
	for i := range 3 * topicsSweepMin {
		p.publish(fmt.Sprint("t", i), "x")
		_, err := s.broker.DeleteTopic(fmt.Sprint("t", i))
		require.NoError(t, err)
	}
	inLoop(t, s.loops[0], func() {
		if n := len(s.loops[0].topics); n > topicsSweepMin+1 {
			t.Errorf("%d dead topics are kept", n)
		}
	})
}

// Collecting and answering the PUBs of a read costs no allocation per message.
func TestPublishAllocations(t *testing.T) {
	s := serve(t, nil)
	l := idleLoop(s)
	c, peer := l.connect(t)
	var in []byte
	const messages = 200
	for range messages {
		in = codec.AppendPub(in, "t", make([]byte, 200))
	}
	drain := make([]byte, 1<<20)
	l.readable(c, []byte(codec.MagicV2))
	pass := func() {
		l.readable(c, in)
		for c.job != nil {
			l.turn()
		}
		for got := 0; got < messages*len(codec.FrameOK); {
			n, err := peer.Read(drain)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
	pass()
	allocs := testing.AllocsPerRun(50, pass)
	require.Less(t, allocs, 5.0, "per %d messages", messages)
}
