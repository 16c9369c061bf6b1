package loop

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

func beatEvery(d time.Duration) func(*Options) {
	return func(o *Options) { o.Identify.HeartbeatInterval = d }
}

// Heartbeats come at a fixed pace, whatever else is going on.
func TestHeartbeats(t *testing.T) {
	const every = 50 * time.Millisecond
	s := serve(t, beatEvery(every))
	c := s.connect()
	start := time.Now()
	stop := make(chan struct{})
	go func() { // traffic
		tick := time.NewTicker(7 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := c.Write([]byte("NOP\n")); err != nil {
					return
				}
			}
		}
	}()
	for beat := 1; beat <= 6; beat++ {
		c.wantResponse("_heartbeat_")
		require.GreaterOrEqual(t, time.Since(start), time.Duration(beat)*every-5*time.Millisecond)
	}
	close(stop)
}

// The pace is kept however late a beat is, and beats that were missed are skipped.
func TestHeartbeatPhase(t *testing.T) {
	l := idleLoop(serve(t, beatEvery(100)))
	c, _ := l.connect(t)
	l.readable(c, []byte(codec.MagicV2))
	start := c.beatAt
	for _, x := range []struct{ now, next int64 }{{0, 100}, {130, 200}, {200, 300}, {399, 400}, {750, 800}, {800, 900}} {
		c.heartbeat(start + x.now)
		require.Equal(t, start+x.next, c.beatAt, "at %d", x.now)
	}
}

// While a client takes nothing, one heartbeat waits for it, not one for every interval.
func TestOneHeartbeatWaits(t *testing.T) {
	l := idleLoop(serve(t, nil))
	c, peer := l.connect(t)
	l.readable(c, []byte(codec.MagicV2))
	c.interval, c.readBy = 0, 0 // no deadlines
	stuffing := stuff(t, c)
	for range 10 {
		l.now = c.beatAt
		c.onTimer()
		require.Equal(t, len(codec.FrameHeartbeat), len(c.control)-c.controlSent)
	}
	peer.skip(stuffing)
	l.now += 1e9
	c.flushOutput()
	peer.wantResponse("_heartbeat_")
	require.False(t, c.beatWaits)
	c.heartbeat(c.beatAt)
	peer.wantResponse("_heartbeat_")
}

// A connection that is not read because its publishes wait for the disk is not silent.
func TestNoReadDeadlineWhilePublishing(t *testing.T) {
	const interval = 50 * time.Millisecond
	d := &gatedDisk{HeapDisk: mmapq.NewHeapDisk()}
	s := serveOn(t, openBroker(t, d, mmapq.SyncInterval), beatEvery(interval), nil)
	t.Cleanup(func() { d.create.open(nil) })
	c := s.connect()
	d.create.shut()
	c.sendBytes(codec.AppendPub(nil, "t", []byte("x")))
	for range 6 {
		c.wantResponse("_heartbeat_")
	}
	d.create.open(nil)
	for {
		if _, data := c.frame(); data != "_heartbeat_" {
			require.Equal(t, "OK", data)
			break
		}
	}
}

// The first IDENTIFY decides about the ticker.
func TestHeartbeatIntervalOfTheFirstIdentify(t *testing.T) {
	s := serve(t, beatEvery(time.Hour))
	c := s.connect()
	require.Equal(t, "OK", c.identify(`{"heartbeat_interval":1000}`))
	require.Equal(t, "OK", c.identify(`{"heartbeat_interval":60000}`))
	c.wantResponse("_heartbeat_")

	off := s.connect()
	require.Equal(t, "OK", off.identify(`{"heartbeat_interval":-1}`))
	off.send("SUB t ch\n")
	off.wantError("E_INVALID cannot SUB with heartbeats disabled")
	off.wantClosed()
}

// Two intervals without a complete command: closed, without a frame between commands, with one inside a body.
func TestReadDeadline(t *testing.T) {
	for name, x := range map[string]struct{ in, want string }{
		"between commands": {"", ""},
		"in a line":        {"PUB t", ""},
		"in a size":        {"PUB t\n\x00", "E_BAD_MESSAGE PUB failed to read message body size"},
		"in a body":        {"PUB t\n\x00\x00\x00\x05ab", "E_BAD_MESSAGE PUB failed to read message body"},
		"in an MPUB":       {"MPUB t\n\x00\x00\x00\x05\x00", "E_BAD_BODY MPUB failed to read message count"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const interval = 60 * time.Millisecond
			s := serve(t, beatEvery(interval))
			c := s.connect()
			start := time.Now()
			c.send(x.in)
			var err error
			var data []byte
			for err == nil {
				if _, data, err = c.next(); err == nil && string(data) != "_heartbeat_" {
					require.Equal(t, x.want, string(data))
					x.want = ""
				}
			}
			require.Empty(t, x.want, "not told")
			require.GreaterOrEqual(t, time.Since(start), 2*interval)
			require.Less(t, time.Since(start), 10*interval)
		})
	}
}

// Bytes of an unfinished command do not renew the deadline, complete commands do.
func TestPartialBytesDoNotRenewTheReadDeadline(t *testing.T) {
	const interval = 60 * time.Millisecond
	s := serve(t, beatEvery(interval))
	c, alive := s.connect(), s.connect()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for range tick.C {
		if _, err := c.Write([]byte("x")); err != nil {
			break
		}
		alive.send("NOP\n")
		require.Less(t, time.Since(start), patience)
	}
	require.Less(t, time.Since(start), 20*interval)
	alive.send("FIN\n")
	for {
		if _, data := alive.frame(); data != "_heartbeat_" {
			require.Equal(t, "E_INVALID cannot FIN in current state", data)
			break
		}
	}
}

func TestMagicTimeout(t *testing.T) {
	s := serve(t, func(o *Options) { o.MagicTimeout = 50 * time.Millisecond })
	silent, partial, quick := s.dial(), s.dial(), s.connect()
	partial.send("  V")
	start := time.Now()
	silent.wantClosed()
	partial.wantClosed()
	require.Less(t, time.Since(start), patience/2)
	quick.publish("t", "x")

	s = serve(t, func(o *Options) { o.MagicTimeout = 0 })
	c := s.dial()
	eventually(t, "accepted", func() bool { return s.Counters().Accepted == 1 })
	inLoop(t, s.loops[0], func() {
		if s.loops[0].all.first.nextDeadline() != 0 {
			t.Error("a deadline without a magic timeout")
		}
	})
	c.send(codec.MagicV2)
	c.publish("t", "x")
}

// A consumer that takes no byte for one heartbeat interval is closed, unless its heartbeats are off; then it waits.
func TestWriteDeadline(t *testing.T) {
	const interval = 100 * time.Millisecond
	s := serveWith(t, mmapq.SyncInterval, beatEvery(interval), smallSockets)
	p, c := s.connectSmall(), s.connectSmall()
	require.Equal(t, "OK", p.identify(`{"heartbeat_interval":-1}`))
	c.subscribe("t", "ch", 2500)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // it sends, so it is not the read deadline that hits
		for {
			select {
			case <-stop:
				return
			case <-time.After(interval / 4):
				if _, err := c.Write([]byte("NOP\n")); err != nil {
					return
				}
			}
		}
	}()
	body := strings.Repeat("x", 1<<20)
	for range 3 {
		p.publish("t", body)
	}
	start := time.Now()
	eventually(t, "closed", func() bool { return s.log.count("took no output for too long") == 1 })
	require.Less(t, time.Since(start), 5*time.Second)

	// Heartbeats off: replies wait as long as they must.
	go func() {
		_, _ = p.Write([]byte(strings.Repeat("IDENTIFY\n\x00\x00\x00\x1c"+`{"feature_negotiation":true}`, 20_000)))
	}()
	l := s.loops[0]
	stuck := func() (stuck bool) {
		inLoop(t, l, func() {
			c := l.all.first
			stuck = c != nil && c.unsent() && c.full
		})
		return stuck
	}
	eventually(t, "stuck", stuck)
	time.Sleep(3 * interval) // what must not happen has no event
	require.EqualValues(t, 1, s.Counters().Open)
	require.True(t, stuck())
	require.NoError(t, p.Close())
}
