package loop

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

func TestOptionsAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Options){
		"too many loops": func(o *Options) { o.Loops = loopsMax + 1 },
		"negative loops": func(o *Options) { o.Loops = -1 },
		"no limits":      func(o *Options) { o.Limits = codec.Limits{} },
		"no version":     func(o *Options) { o.Server.Version = "" },
	} {
		opt := testOptions()
		spoil(&opt)
		_, err := New(nil, opt)
		require.Error(t, err, name)
	}
	opt := testOptions()
	opt.Loops, opt.Log = 0, nil
	_, err := New(nil, opt)
	require.NoError(t, err)
}

// Stop: no frame, no new connections, what was in flight is with the broker again.
func TestStop(t *testing.T) {
	s := serve(t, func(o *Options) { o.Loops = 2 })
	p, c, idle := s.connect(), s.connect(), s.dial()
	c.subscribe("t", "ch", 10)
	p.publish("t", "x")
	c.message()
	addr := s.Addrs()[0]
	require.NoError(t, s.Stop())
	for _, c := range []*client{p, c, idle} {
		c.wantClosed()
	}
	_, err := net.Dial(addr.Network(), addr.String())
	require.Error(t, err)
	require.NoError(t, s.Stop())
	require.Empty(t, s.Clients())
	require.Equal(t, 1, s.log.count("TCP: closing "+addr.String()))
	st := s.broker.LookupTopic("t").LookupChannel("ch").Stats()
	require.EqualValues(t, 0, st.InFlight)
	require.EqualValues(t, 1, st.Depth)
	// The broker may go on ringing loops that are gone.
	require.NoError(t, s.broker.LookupTopic("t").LookupChannel("ch").SetPaused(true))
}

func TestClients(t *testing.T) {
	s := serve(t, func(o *Options) { o.Loops = 2 })
	before := time.Now().Unix()
	p, c, plain := s.connect(), s.connect(), s.connect()
	plain.publish("t1", "x")
	p.identify(`{"client_id":"p","hostname":"ph","user_agent":"ua/1","topology_zone":"z","topology_region":"r","sample_rate":0}`)
	p.publish("t1", "x", "y")
	p.publish("t2", "x")
	p.sendBytes(codec.AppendMpub(nil, "t2", [][]byte{[]byte("1"), []byte("2")}))
	p.wantOK()
	c.identify(`{"client_id":"c","hostname":"ch"}`)
	c.subscribe("t1", "ch", 5)
	m := c.message()
	c.message()
	c.message()
	c.fin(m)
	c.sendBytes(codec.AppendReq(nil, m.ID, time.Hour))
	c.wantError("E_REQ_FAILED REQ " + string(m.ID) + " failed ID not in flight")

	byID := map[string]ClientStats{}
	for _, st := range s.Clients() {
		require.GreaterOrEqual(t, st.ConnectTime, before)
		st.ConnectTime = 0
		byID[st.ClientID] = st
	}
	require.Equal(t, map[string]ClientStats{
		"p": {
			ClientID: "p", Hostname: "ph", UserAgent: "ua/1", TopologyRegion: "r", TopologyZone: "z",
			RemoteAddress: p.LocalAddr().String(), PubCounts: map[string]uint64{"t1": 2, "t2": 3},
		},
		"c": {
			ClientID: "c", Hostname: "ch", RemoteAddress: c.LocalAddr().String(), State: codec.StateSubscribed,
			ReadyCount: 5, InFlightCount: 2, MessageCount: 3, FinishCount: 1, Channel: s.broker.LookupTopic("t1").LookupChannel("ch"),
		},
		"127.0.0.1": {
			ClientID: "127.0.0.1", Hostname: "127.0.0.1", RemoteAddress: plain.LocalAddr().String(),
			PubCounts: map[string]uint64{"t1": 1},
		},
	}, byID)
}

// panicky is a filter that panics when it meets a certain text, on its way in or out.
type panicky struct {
	silent
	in, out string
}

func (f panicky) Decode(dst, wire []byte) ([]byte, int, bool, error) {
	if strings.Contains(string(wire), f.in) {
		panic("in")
	}
	n := min(len(wire), cap(dst)-len(dst))
	return append(dst, wire[:n]...), n, n < len(wire), nil
}

func (f panicky) Encode(dst, plain []byte) ([]byte, error) {
	if strings.Contains(string(plain), f.out) {
		panic("out")
	}
	return append(dst, plain...), nil
}

// A panic costs the connection on whose behalf it happened, nobody else anything.
func TestPanicsAreContained(t *testing.T) {
	s := serve(t, func(o *Options) {
		o.upgrade = func(codec.Grant) Filter { return panicky{in: "BOOM", out: "what?"} }
	})
	p, bystander := s.connect(), s.connect()
	bystander.subscribe("t", "other", 100)
	negotiate := `{"feature_negotiation":true}`

	in := s.connect() // in the middle of a batch
	in.identify(negotiate)
	in.sendBytes(append(codec.AppendPub(nil, "t", []byte("lost or not")), "BOOM"...))
	in.wantClosed()

	out := s.connect() // while delivering
	out.identify(negotiate)
	out.subscribe("t", "ch", 100)
	p.publish("t", "fine")
	require.Equal(t, "fine", string(out.message().Body))
	p.publish("t", "what?")
	out.wantClosed()
	require.EqualValues(t, 2, s.Counters().Panics)
	require.Equal(t, 2, s.log.count("panic"))

	for _, want := range []string{"fine", "what?"} {
		require.Equal(t, want, string(bystander.message().Body))
	}
	again := s.connect() // nothing was lost by it
	again.subscribe("t", "ch", 100)
	require.Equal(t, "fine", string(again.message().Body))
	require.Equal(t, "what?", string(again.message().Body))
}

// What a panic interrupts is not carried over to the next connection.
func TestPanicInTheMiddleOfABatch(t *testing.T) {
	s := serve(t, nil)
	l := idleLoop(s)
	victim, peer := l.connect(t)
	l.readable(victim, []byte(codec.MagicV2))
	l.topics["broken"] = &topicEntry{name: "broken"}
	in := codec.AppendPub(nil, "a", []byte("x"))
	in = codec.AppendPub(in, "broken", []byte("x"))
	l.readable(victim, codec.AppendPub(in, "b", []byte("x")))
	require.True(t, victim.closed)
	peer.wantClosed()
	next, peer := l.connect(t)
	l.readable(next, []byte(codec.MagicV2))
	for range 2 { // the first may wait for the disk
		l.readable(next, codec.AppendPub(nil, "c", []byte("x")))
		for next.job != nil {
			l.turn()
		}
		peer.wantOK()
	}
	require.Zero(t, s.broker.LookupTopic("b").Stats().MessageCount)
	require.EqualValues(t, 2, s.broker.LookupTopic("c").Stats().MessageCount)
	require.LessOrEqual(t, s.broker.LookupTopic("a").Stats().MessageCount, uint64(1))
	require.EqualValues(t, 1, s.Counters().Panics)
}

// A broken engine is told at the start, and leaves nothing behind.
func TestStartFailure(t *testing.T) {
	broken := errors.New("broken")
	opt := testOptions()
	b := serve(t, nil).broker
	s, err := New(b, opt)
	require.NoError(t, err)
	engines := 0
	s.newEngine = func(log LogFunc) engine {
		if engines++; engines == 2 {
			return brokenEngine{err: broken}
		}
		return newGnetEngine(log)
	}
	s.opt.Loops = 2
	require.ErrorIs(t, s.Start(), broken)
}

type brokenEngine struct {
	noEngine
	err error
}

func (e brokenEngine) start(handler) error { return e.err }
