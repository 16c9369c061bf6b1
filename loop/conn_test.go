package loop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

// conversation is input with every kind of body, and what it is answered.
func conversation() (in []byte, answers []string) {
	in = append(in, codec.MagicV2...)
	in = codec.AppendIdentify(in, []byte(`{"client_id":"c"}`))
	in = codec.AppendPub(in, "a", []byte("one"))
	in = codec.AppendNop(in)
	in = codec.AppendPub(in, "b", bytes.Repeat([]byte("x"), 300))
	in = codec.AppendMpub(in, "a", [][]byte{[]byte("two"), []byte("three"), []byte("four")})
	in = codec.AppendDpub(in, "a", 0, []byte("five"))
	in = codec.AppendSub(in, "a", "ch")
	in = append(in, "FIN 0123456789abcdef\n"...)
	in = codec.AppendPub(in, "a", []byte("six"))
	in = codec.AppendCls(in)
	in = append(in, "WHAT\n"...)
	return in, []string{
		"OK", "OK", "OK", "OK", "OK", "OK", "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight", "OK", "CLOSE_WAIT",
		"E_INVALID invalid command WHAT",
	}
}

// However input is cut into writes, it means the same.
func TestInputCutAnywhere(t *testing.T) {
	s := serve(t, nil)
	in, answers := conversation()
	check := func(c *client) {
		for _, want := range answers {
			_, got := c.frame()
			require.Equal(t, want, got)
		}
		c.wantClosed()
	}
	t.Run("one write", func(t *testing.T) {
		c := s.dial()
		c.sendBytes(in)
		check(c)
	})
	t.Run("one byte each", func(t *testing.T) {
		c := s.dial()
		require.NoError(t, c.Conn.(*net.TCPConn).SetNoDelay(true))
		for i := range in {
			c.sendBytes(in[i : i+1])
		}
		check(c)
	})
	t.Run("every cut", func(t *testing.T) { // straight into the session, so that every cut is really seen
		l := idleLoop(s)
		for cut := 1; cut < len(in); cut++ {
			c, peer := l.connect(t)
			feed := func(p []byte) {
				l.readable(c, bytes.Clone(p))
				for began := time.Now(); c.job != nil && time.Since(began) < patience; { // no segment was at hand
					time.Sleep(time.Millisecond)
					l.readMail()
				}
			}
			feed(in[:cut])
			if !c.closed {
				feed(in[cut:])
			}
			for _, want := range answers {
				_, got := peer.frame()
				require.Equal(t, want, got, "cut at %d", cut)
			}
			peer.wantClosed()
		}
	})
	require.EqualValues(t, 0, s.Counters().Panics)
}

// Bodies arrive whole however large they are, and an idle connection keeps no memory of them.
func TestLargeBodies(t *testing.T) {
	s := serve(t, nil)
	p := s.connect()
	c := s.connect()
	c.subscribe("t", "ch", 100)
	var bodies [][]byte
	for _, size := range []int{1, 1000, 60 << 10, 64 << 10, 200_000, 256 << 10, 1 << 20} {
		bodies = append(bodies, bytes.Repeat([]byte{byte(size)}, size))
	}
	for _, body := range bodies {
		p.sendBytes(codec.AppendPub(nil, "t", body))
		p.wantOK()
	}
	p.sendBytes(codec.AppendMpub(nil, "t", bodies))
	p.wantOK()
	for range 2 {
		for _, body := range bodies {
			m := c.message()
			require.True(t, bytes.Equal(body, m.Body))
			c.fin(m)
		}
	}
}

// The declared size of an MPUB does not bound it, so what has arrived must.
func TestEndlessMpubIsRefused(t *testing.T) {
	s := serve(t, func(o *Options) { o.Limits.MaxMsgSize, o.Limits.MaxBodySize = 10_000, 100_000 })
	c := s.connect()
	in := append([]byte("MPUB t\n"), binary.BigEndian.AppendUint32(nil, 1000)...)
	in = binary.BigEndian.AppendUint32(in, 10_000) // messages
	one := append(binary.BigEndian.AppendUint32(nil, 10_000), make([]byte, 10_000)...)
	go func() { // until the server closes
		for _, err := c.Write(in); err == nil; _, err = c.Write(one) {
		}
	}()
	_, data := c.frame()
	require.Regexp(t, `^E_BAD_BODY MPUB body too big \d+ > 100000$`, data)
	c.wantClosed()
}

// The peer's last byte was sent, but it still reads: it gets what it is owed.
func TestHalfClose(t *testing.T) {
	half := func(c *client) { require.NoError(c.t, c.Conn.(*net.TCPConn).CloseWrite()) }
	for _, x := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"in the magic", "  V", ""},
		{"between commands", "  V2NOP\n", ""},
		{"in a line", "  V2PUB t", ""},
		{"after a publish", "  V2PUB t\n\x00\x00\x00\x01x", "OK"},
		{"in a size", "  V2PUB t\n\x00\x00", "E_BAD_MESSAGE PUB failed to read message body size"},
		{"in a body", "  V2PUB t\n\x00\x00\x00\x05x", "E_BAD_MESSAGE PUB failed to read message body"},
		{"in an IDENTIFY", "  V2IDENTIFY\n\x00\x00\x00\x05{", "E_BAD_BODY IDENTIFY failed to read body"},
		{"in an MPUB", "  V2MPUB t\n\x00\x00\x00\x05\x00\x00\x00\x01\x00", "E_BAD_MESSAGE MPUB failed to read message(0) body size"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := serve(t, nil)
			c := s.dial()
			c.send(x.in)
			half(c)
			if x.want != "" {
				_, data := c.frame()
				require.Equal(t, x.want, data)
			}
			c.wantClosed()
			eventually(t, "forgotten", func() bool { return s.Counters().Open == 0 })
		})
	}
}

// A client that floods commands and never reads stops being read itself; its memory here is bounded, others go on, and
// when it does read nothing is missing.
func TestRepliesAreBounded(t *testing.T) {
	for name, one := range map[string]struct {
		command string
		setup   string
		answer  string
	}{
		"errors": {
			command: "FIN 0123456789abcdef\n", setup: "SUB t ch\n",
			answer: "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight",
		},
		"IDENTIFY": {
			command: string(codec.AppendIdentify(nil, []byte(`{"feature_negotiation":true}`))),
			answer:  "{",
		},
		"OKs": {command: "PUB t\n\x00\x00\x00\x01x", answer: "OK"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, mmapq.SyncInterval, nil, smallSockets)
			c := s.connectSmall()
			if one.setup != "" {
				c.send(one.setup)
				c.wantOK()
			}
			batch := []byte(strings.Repeat(one.command, 1000))
			sent := 0
			// Until it is stuck: its socket takes nothing for a while.
			for {
				require.NoError(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
				n, err := c.Write(batch)
				sent += n
				if err != nil {
					require.ErrorContains(t, err, "timeout")
					break
				}
				require.Less(t, sent, 20<<20, "the server swallows everything")
			}
			requireBounded(t, s)

			other := s.connect() // unharmed
			other.publish("other", "x")

			go func() { // finish the command that was cut
				_ = c.SetWriteDeadline(time.Time{})
				if cut := sent % len(one.command); cut != 0 {
					_, _ = c.Write([]byte(one.command[cut:]))
				}
			}()
			commands := (sent + len(one.command) - 1) / len(one.command)
			for i := range commands {
				if _, data, err := c.next(); err != nil || !strings.HasPrefix(string(data), one.answer) {
					t.Fatalf("%d: %s %v", i, data, err)
				}
			}
		})
	}
}

// requireBounded looks at every connection's memory, on its loop.
func requireBounded(t *testing.T, s *testServer) {
	t.Helper()
	for _, l := range s.loops {
		var output, input, entries int
		inLoop(t, l, func() {
			for c := l.all.first; c != nil; c = l.all.after(c) {
				stored := len(c.control)
				for _, r := range c.replies.entries {
					stored += len(r.data)
				}
				output = max(output, stored)
				input = max(input, len(c.parked)+len(c.wire))
				entries = max(entries, len(c.replies.entries))
			}
		})
		require.LessOrEqual(t, output, 2*outputMax)
		require.LessOrEqual(t, input, readBuffer)
		require.LessOrEqual(t, entries, 1000)
	}
}

func TestIdleConnectionOwnsNoBuffers(t *testing.T) {
	s := serve(t, nil)
	c := s.connect()
	c.send("PUB t\n\x00\x01")
	c.send("\x00\x00" + strings.Repeat("x", 65536))
	c.wantOK()
	for i := range 100 {
		c.publish("t", fmt.Sprint(i))
	}
	l := s.loops[0]
	inLoop(t, l, func() {
		c := l.all.first
		assert.Nil(t, c.carry)
		assert.Nil(t, c.parked)
		assert.Nil(t, c.control)
		assert.Nil(t, c.replies.entries)
	})
}
