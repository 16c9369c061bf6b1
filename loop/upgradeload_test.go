package loop

import (
	"bytes"
	"compress/flate"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

// What a compressed stream expands to meets the limits of plain bytes, is taken in portions and costs bounded memory.
func TestUpgradeBombs(t *testing.T) {
	const zeros = 256 << 20
	var deflated bytes.Buffer
	w, err := flate.NewWriter(&deflated, 9)
	require.NoError(t, err)
	for range zeros >> 20 {
		_, err = w.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	var snappied []byte
	var sw codec.SnappyWriter
	for range zeros >> 20 {
		snappied = sw.Encode(snappied, make([]byte, 1<<20))
	}
	for name, bomb := range map[string][]byte{"deflate": deflated.Bytes(), "snappy": snappied} {
		t.Run(name, func(t *testing.T) {
			s := serveUpgrades(t, nil)
			before := heap()
			c := s.connect()
			c.t = t
			c.identify(`{"feature_negotiation":true,` + layers[name].ask + `}`)
			go func() { _, _ = c.Write(bomb) }()
			other := s.connect()
			other.publish("t", "beside it")
			// 16 KiB of zeros are a line without an end.
			left, err := io.ReadAll(c)
			require.True(t, err == nil || strings.Contains(err.Error(), "reset"), "%v", err)
			require.Less(t, len(left), 100)
			require.Less(t, heap(), before+(32<<20))
		})
		t.Run(name+" in a body", func(t *testing.T) {
			s := serveUpgrades(t, func(o *Options) { o.Limits.MaxMsgSize, o.Limits.MaxBodySize = 1<<30, 1<<30 })
			c := s.upgradeTo(name)
			c.t = t
			c.send("PUB t\n\x00\x10\x00\x01")
			c.send(strings.Repeat("\x00", 1<<20+1)) // accepted as one message, whatever it came as
			c.wantOK()
		})
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// drainSocket empties the peer's end of a connection on a bench.
func drainSocket(t *testing.T, peer *client) {
	t.Helper()
	require.NoError(t, peer.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, _ = io.Copy(io.Discard, peer)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// benchFilters are filters that need no handshake, and how a client fills them.
var benchFilters = map[string]struct {
	filter func(*loop) Filter
	encode func() func([]byte) []byte
}{
	"snappy": {
		func(*loop) Filter { return &snappyFilter{} },
		func() func([]byte) []byte {
			var w codec.SnappyWriter
			return func(p []byte) []byte { return w.Encode(nil, p) }
		},
	},
	"deflate": {
		func(l *loop) Filter { return &deflateFilter{pool: &l.deflaters, level: 6} },
		func() func([]byte) []byte {
			var out bytes.Buffer
			w, err := flate.NewWriter(&out, 6)
			if err != nil {
				panic(err)
			}
			return func(p []byte) []byte {
				out.Reset()
				_, _ = w.Write(p) // into memory
				_ = w.Flush()
				return bytes.Clone(out.Bytes())
			}
		},
	},
}

// filtered is a connection on a bench with a filter, subscribed.
func (b bench) filtered(t *testing.T, name string) (c *conn, peer *client, encode func([]byte) []byte) {
	t.Helper()
	c, peer = b.connect(t)
	b.readable(c, []byte(codec.MagicV2+"SUB t ch\n"))
	peer.wantOK()
	c.filter = benchFilters[name].filter(b.loop)
	return c, peer, benchFilters[name].encode()
}

// Commands with answers nobody reads stop a compressed connection like any other.
func TestUpgradeRepliesAreBounded(t *testing.T) {
	for name := range benchFilters {
		t.Run(name, func(t *testing.T) {
			l := idleLoop(serve(t, nil))
			c, _, encode := l.filtered(t, name)
			stuff(t, c)
			commands := encode([]byte(strings.Repeat("FIN 0123456789abcdef\n", 100)))
			for i := 0; !c.full; i++ {
				require.Less(t, i, 1000)
				l.readable(c, commands)
				commands = encode([]byte(strings.Repeat("FIN 0123456789abcdef\n", 100)))
			}
			require.NotZero(t, c.paused&pauseOutput)
			require.LessOrEqual(t, len(c.control)+len(c.wireOut)+c.replies.bytes, 3*outputMax)
		})
	}
}

// A little input that expands to much has its turn, and then others have theirs.
func TestUpgradeTurns(t *testing.T) {
	for name := range benchFilters {
		t.Run(name, func(t *testing.T) {
			l := idleLoop(serve(t, nil))
			c, _, encode := l.filtered(t, name)
			const size = 4 << 20
			l.readable(c, encode(bytes.Repeat([]byte("NOP\n"), size/4)))
			turns := 1
			for ; c.wire != nil; turns++ {
				require.NotZero(t, c.paused&pauseTurn)
				l.turn()
			}
			require.GreaterOrEqual(t, turns, size/(filterTurn+filterPortion))
			require.Zero(t, c.paused)
		})
	}
}

// Compressing has its turn too: a long run at a high level goes out in several.
func TestUpgradeEncodingTurns(t *testing.T) {
	l := idleLoop(serve(t, nil))
	topic := l.warmTopic(t, "t")
	c, peer, _ := l.filtered(t, "deflate")
	c.filter = &deflateFilter{pool: &l.deflaters, level: 9}
	_, err := topic.PublishWait([][]byte{incompressible(500_000)})
	require.NoError(t, err)
	l.readable(c, appendStored(nil, []byte("RDY 1\n")))
	require.NotNil(t, c.held)
	require.True(t, c.owing)
	turns := 0
	for ; c.held != nil && turns < 1000; turns++ {
		before := c.held.sent
		l.turn()
		if c.held != nil {
			require.LessOrEqual(t, c.held.sent-before, encodeTurn/c.filter.Weight()+encodePieceSlow)
		}
		drainSocket(t, peer)
	}
	require.Greater(t, turns, 10)
	require.Less(t, turns, 1000)
	require.Equal(t, 1, l.deflaters.owned)
	l.closeConn(c)
	require.Zero(t, l.deflaters.owned)
}

// A consumer that stops reading and leaves: what was never encoded, or never went out, costs no attempt.
func TestUpgradeUnwrittenCostsNoAttempt(t *testing.T) {
	for name := range layers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, mmapq.SyncInterval, func(o *Options) {
				o.TLS = serverTLS()
				o.Server.Snappy, o.Server.Deflate, o.Server.MaxDeflateLevel = true, true, 9
			}, smallSockets)
			p := s.connect()
			const size = 900_000
			body := string(incompressible(size))
			for range 10 {
				p.publish("t", body)
			}
			c := s.connectSmall()
			c.identify(`{"feature_negotiation":true,` + layers[name].ask + `}`)
			layers[name].do(c)
			c.subscribe("t", "ch", 2500)
			l := s.loops[0]
			var held bool
			eventually(t, "stuck", func() bool {
				inLoop(t, l, func() {
					for c := l.all.first; c != nil; c = l.all.after(c) {
						held = held || c.held != nil && len(c.wireOut) > 0
						if len(c.wireOut) > 2*encodePiece {
							t.Errorf("%d encoded bytes wait", len(c.wireOut))
						}
					}
				})
				return held
			})
			require.NoError(t, c.Close())
			again := s.connect()
			again.subscribe("t", "ch", 2500)
			attempts := map[uint16]int{}
			for range 10 {
				m := again.message()
				attempts[m.Attempts]++
				again.fin(m)
			}
			require.GreaterOrEqual(t, attempts[1], 6, "%v", attempts)
		})
	}
}

// close_notify ends a connection like the end of the stream, and is answered.
func TestTLSCloseNotify(t *testing.T) {
	s := serveUpgrades(t, nil)
	c := s.connect()
	c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
	var seen bytes.Buffer
	c.Conn = &tapped{c.Conn, &seen}
	conn := c.goTLS(clientTLS())
	c.publish("t", "x")
	c.send("PUB t\n\x00\x00")
	require.NoError(t, conn.CloseWrite())
	c.wantError("E_BAD_MESSAGE PUB failed to read message body size")
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	const alert = 5 + 2 + 1 + 16 // a record of TLS 1.3 with two bytes in it
	last := seen.Bytes()[seen.Len()-alert:]
	require.Equal(t, "\x17\x03\x03\x00\x13", string(last[:5]), "it ends with an alert, not with a cut")
	eventually(t, "gone", func() bool { return s.Counters().Open == 0 })
}

// A broken record ends the connection with an alert.
func TestTLSBrokenRecord(t *testing.T) {
	s := serveUpgrades(t, nil)
	c := s.connect()
	c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
	raw := c.Conn
	conn := c.goTLS(clientTLS())
	c.publish("t", "x")
	_, err := raw.Write([]byte("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)))
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "remote error: tls: bad record MAC")
	eventually(t, "gone", func() bool { return s.Counters().Open == 0 })
}

// A client may send behind its last word of the handshake, without waiting, more than crypto/tls reads ahead.
func TestTLSDataBehindTheHandshake(t *testing.T) {
	s := serveUpgrades(t, nil)
	c := s.connect()
	c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
	late := &holding{Conn: c.Conn}
	conn := tls.Client(late, clientTLS())
	require.NoError(t, conn.Handshake())
	c.Conn = conn
	body := incompressible(40_000)
	c.sendBytes(codec.AppendPub(nil, "t", body))
	require.NoError(t, late.release())
	c.wantOK()
	c.wantOK()
	c.send("SUB t ch\nRDY 1\n")
	c.wantOK()
	require.Equal(t, body, c.message().Body)
}

// holding sends its first write at once, and everything after it together.
type holding struct {
	net.Conn
	begun bool
	held  []byte
	done  bool
}

func (h *holding) Write(p []byte) (int, error) {
	if !h.begun || h.done {
		h.begun = true
		return h.Conn.Write(p)
	}
	h.held = append(h.held, p...)
	return len(p), nil
}

func (h *holding) release() error {
	h.done = true
	_, err := h.Conn.Write(h.held)
	return err
}

// Clients may renew their keys and ask for ours to be renewed, in the midst of everything. crypto/tls has no way to ask.
func TestTLSKeyUpdates(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl")
	}
	s := serveUpgrades(t, nil)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer front.Close()
	var pumps sync.WaitGroup
	defer pumps.Wait()
	pumps.Go(func() { // openssl knows nothing of IDENTIFY
		near, err := front.Accept()
		if err != nil {
			return
		}
		c := s.connect()
		c.sendBytes(codec.AppendIdentify(nil, []byte(`{"feature_negotiation":true,"tls_v1":true}`)))
		if _, _, err := c.next(); err != nil {
			return
		}
		pumps.Go(func() {
			_, _ = io.Copy(c, near)
			_ = c.Close()
		})
		_, _ = io.Copy(near, c)
		_ = near.Close()
	})
	cmd := exec.Command("openssl", "s_client", "-tls1_3", "-connect", front.Addr().String())
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	var seen []byte
	wait := func(text string, times int) {
		t.Helper()
		for bytes.Count(seen, []byte(text)) < times {
			piece := make([]byte, 4096)
			n, err := out.Read(piece)
			seen = append(seen, piece[:n]...)
			require.NoError(t, err, "%q %d times in %q", text, times, seen)
		}
	}
	send := func(line string) {
		t.Helper()
		_, err := io.WriteString(in, line)
		require.NoError(t, err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	wait(string(codec.FrameOK), 1)
	send("SUB t ch\n")
	wait(string(codec.FrameOK), 2)
	for i := range 20 {
		send([]string{"K\n", "k\n"}[i%2]) // with and without asking for ours
		wait("KEYUPDATE", i+1)
		send("FIN 0123456789abcdef\n")
		wait("E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight", i+1)
	}
	require.NoError(t, in.Close())
	_, _ = io.Copy(io.Discard, out)
	require.NoError(t, cmd.Wait())
}

// A crowd of half-open handshakes beside a producer and a consumer, with and without TLS.
func TestTLSCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand connections")
	}
	s := serveUpgrades(t, nil)
	descriptors := openDescriptors(t)
	hello := clientHello(t)
	crowd := make([]*client, 1000)
	for i := range crowd {
		c := s.connect()
		c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
		c.sendBytes(hello[:len(hello)-i%2])
		crowd[i] = c
	}
	for _, name := range []string{"tls", "tls snappy"} {
		c := s.upgradeTo(name)
		c.publish("t", "a", "b")
		c.subscribe("t", "ch", 10)
		for range 2 {
			c.fin(c.message())
		}
		c.wantSilence()
		require.NoError(t, c.Close())
	}
	for _, c := range crowd {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		_, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	eventually(t, "descriptors and connections are back", func() bool {
		return s.Counters().Open == 0 && openDescriptors(t) <= descriptors
	})
}

// A piece that was encoded, but of which not a byte went out, was not delivered: neither when it is the last of its run
// nor when it waits in front of more.
func TestUpgradeUnseenPieceCostsNoAttempt(t *testing.T) {
	for _, size := range []int{10, 3 * encodePiece} {
		s := serve(t, nil)
		l := idleLoop(s)
		topic := l.warmTopic(t, "t")
		c, peer := l.connect(t)
		l.readable(c, []byte(codec.MagicV2+"SUB t ch\n"))
		peer.wantOK()
		c.filter = &snappyFilter{}
		var w codec.SnappyWriter
		stuffing := stuff(t, c)
		_, err := topic.PublishWait([][]byte{[]byte("first"), incompressible(size), []byte("last")})
		require.NoError(t, err)
		l.readable(c, w.Encode(nil, []byte("RDY 2500\n")))
		require.NotEmpty(t, c.wireOut)
		require.NotNil(t, c.held)
		require.Positive(t, c.held.unseen)
		require.LessOrEqual(t, len(c.wireOut), encodePiece+1000)
		require.Positive(t, stuffing)
		l.closeConn(c)

		again, peer := l.connect(t)
		l.readable(again, []byte(codec.MagicV2+"SUB t ch\nRDY 2500\n"))
		peer.wantOK()
		for range 3 {
			require.EqualValues(t, 1, peer.message().Attempts)
		}
	}
}
