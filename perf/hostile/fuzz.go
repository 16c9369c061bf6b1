package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

// fuzzWords are whole commands, as an honest client sends them. Topics and channels are ephemeral: what sessions leave must be nothing.
var fuzzWords = []func(v victim, out []byte) []byte{
	func(v victim, out []byte) []byte {
		return codec.AppendPub(out, "fuzz#ephemeral", make([]byte, v.rand.IntN(300)))
	},
	func(v victim, out []byte) []byte {
		return codec.AppendMpub(out, "fuzz#ephemeral", [][]byte{{1}, make([]byte, v.rand.IntN(3000)), {2, 3}})
	},
	func(v victim, out []byte) []byte {
		out = fmt.Appendf(out, "DPUB fuzz#ephemeral %d\n\x00\x00\x00\x03abc", v.rand.IntN(3000))
		return out
	},
	func(v victim, out []byte) []byte {
		return codec.AppendSub(out, "fuzz#ephemeral", fmt.Sprintf("c%d#ephemeral", v.rand.IntN(4)))
	},
	func(v victim, out []byte) []byte { return codec.AppendRdy(out, v.rand.Int64N(2600)) },
	func(v victim, out []byte) []byte { return append(out, "FIN 0123456789abcdef\n"...) },
	func(v victim, out []byte) []byte {
		return fmt.Appendf(out, "REQ 0123456789abcdef %d\n", v.rand.IntN(100))
	},
	func(v victim, out []byte) []byte { return append(out, "TOUCH 0123456789abcdef\n"...) },
	func(v victim, out []byte) []byte { return append(out, "NOP\n"...) },
	func(v victim, out []byte) []byte { return append(out, "CLS\n"...) },
	func(v victim, out []byte) []byte { return append(out, "AUTH\n\x00\x00\x00\x01x"...) },
	func(v victim, out []byte) []byte {
		return codec.AppendIdentify(out, fmt.Appendf(nil, `{"heartbeat_interval":%d,"msg_timeout":%d,"sample_rate":%d,"output_buffer_size":%d}`,
			v.rand.IntN(70000)-1, v.rand.IntN(10000), v.rand.IntN(120), v.rand.IntN(80000)-1))
	},
	func(v victim, out []byte) []byte {
		layers := []string{"tls_v1", "snappy", "deflate"}
		return codec.AppendIdentify(out, fmt.Appendf(nil, `{"feature_negotiation":true,%q:true,%q:%t}`,
			layers[v.rand.IntN(3)], layers[v.rand.IntN(3)], v.rand.IntN(2) == 0))
	},
}

// fuzzSession is one whole session: commands in any order, sometimes damaged, in pieces of any size, with answers to real messages.
func fuzzSession(v victim) {
	out := bytes.Clone(magic)
	if v.rand.IntN(4) > 0 { // most begin well enough to get somewhere
		out = codec.AppendRdy(codec.AppendSub(out, "fuzz#ephemeral", "c0#ephemeral"), 1+v.rand.Int64N(50))
	}
	for range 1 + v.rand.IntN(40) {
		from := len(out)
		out = fuzzWords[v.rand.IntN(len(fuzzWords))](v, out)
		if v.rand.IntN(12) == 0 {
			out = damage(v, out, from)
		}
	}
	for len(out) > 0 {
		n := min(len(out), 1+v.rand.IntN(1<<v.rand.IntN(13)))
		if !v.send(out[:n]) {
			return
		}
		out = out[n:]
	}
	answer(v)
	if v.rand.IntN(2) == 0 {
		v.reset()
	} else if v.Conn.(*net.TCPConn).CloseWrite() == nil && v.SetReadDeadline(time.Now().Add(time.Second)) == nil {
		v.untilClosed()
	}
}

// damage changes what lies in out behind from: a byte, a length, its end, or something twice.
func damage(v victim, out []byte, from int) []byte {
	at := from + v.rand.IntN(len(out)-from)
	switch v.rand.IntN(4) {
	case 0:
		out[at] ^= byte(1 + v.rand.IntN(255))
	case 1:
		if len(out)-at >= 4 {
			binary.BigEndian.PutUint32(out[at:], v.rand.Uint32()>>v.rand.IntN(32))
		}
	case 2:
		out = out[:at]
	case 3:
		out = append(out, out[at:]...)
	}
	return out
}

// answer takes what comes for a moment and says something about each message in it, twice sometimes.
func answer(v victim) {
	if v.SetReadDeadline(time.Now().Add(20*time.Millisecond)) != nil {
		return
	}
	in := make([]byte, 16<<10)
	for range 3 {
		n, err := v.Read(in)
		if err != nil {
			return
		}
		var out []byte
		for p := in[:n]; ; {
			kind, data, size, ok := codec.SplitFrame(p)
			if !ok || size < 0 {
				break // the rest of it is still on its way, or this is a layer's
			}
			if m, ok := codec.ParseMessage(data); ok && kind == codec.FrameMessage {
				for range 1 + v.rand.IntN(2) {
					out = fmt.Appendf(out, []string{"FIN %s\n", "REQ %s 0\n", "REQ %s 50\n", "TOUCH %s\n"}[v.rand.IntN(4)], m.ID)
				}
			}
			p = p[size:]
		}
		if !v.send(out) {
			return
		}
	}
}
