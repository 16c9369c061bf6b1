package main

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

const (
	targetTopic = "target"
	windows     = 50 // channels of targetTopic with a backlog, one for each client of the window attack
)

var (
	magic   = []byte(codec.MagicV2)
	publish = codec.AppendPub(bytes.Clone(magic), targetTopic, make([]byte, 100))
	fins    = bytes.Repeat([]byte("FIN 0123456789abcdef\n"), 3000)
)

// attacks, the mildest first.
var attacks = []attack{
	{name: "says nothing", clients: 500, pause: 100 * time.Millisecond, life: func(v victim) { v.untilClosed() }},
	{name: "one byte at a time", clients: 200, pause: 10 * time.Millisecond, life: trickle},
	{name: "closes one side", clients: 20, pause: 5 * time.Millisecond, life: func(v victim) {
		if v.send(publish) && v.Conn.(*net.TCPConn).CloseWrite() == nil {
			v.untilClosed()
		}
	}},
	{name: "resets in the middle", clients: 50, pause: 10 * time.Millisecond, life: func(v victim) {
		v.send(publish[:len(publish)-1-v.rand.IntN(len(publish)-1)])
		v.reset()
	}},
	{name: "connects and goes", clients: 50, pause: 10 * time.Millisecond, life: func(v victim) {
		if v.rand.IntN(2) == 0 {
			v.send(magic)
		}
		v.reset()
	}},
	{name: "claims huge lengths", clients: 1000, pause: 100 * time.Millisecond, life: claim},
	{name: "announces a megabyte", clients: 10000, pause: time.Second, life: announce},
	{name: "slow starters", clients: 10000, pause: 100 * time.Millisecond, whole: 10 * time.Second, life: slowStart},
	{name: "random commands", clients: 20, pause: 5 * time.Millisecond, life: babble},
	{name: "does not read its messages", clients: windows, pause: 100 * time.Millisecond, window: 1, life: func(v victim) {
		v.send(codec.AppendRdy(codec.AppendSub(bytes.Clone(magic), targetTopic, windowChannel(v.id)), 2500))
		v.wait(2 * time.Second)
	}},
	{name: "does not read its errors", clients: 20, pause: 10 * time.Millisecond, life: func(v victim) {
		v.send(codec.AppendSub(bytes.Clone(magic), targetTopic, "errors"))
		for v.send(fins) {
		}
	}},
	{name: "half a TLS handshake", clients: 1000, pause: 100 * time.Millisecond, life: halfTLS},
	{name: "fuzzed sessions", clients: 20, pause: 5 * time.Millisecond, life: fuzzSession},
	{name: "deflate bomb", clients: 4, pause: 10 * time.Millisecond, life: bomb},
}

func windowChannel(id int) string { return fmt.Sprintf("window%d", id) }

// prepareTopics makes what attackers use, so that what an attack leaves behind can be told from what it found.
func prepareTopics(ctx context.Context, p *daemon.Process) error {
	channels := []string{"errors"}
	for id := range windows {
		channels = append(channels, windowChannel(id))
	}
	if err := p.API().CreateTopic(ctx, targetTopic, channels...); err != nil {
		return err
	}
	if err := p.API().CreateTopic(ctx, honestTopic, "c"); err != nil {
		return err
	}
	conn, err := client.Dial(ctx, p.TCPAddr, nil)
	if err != nil {
		return err
	}
	bodies := make([][]byte, 100)
	for i := range bodies {
		bodies[i] = make([]byte, 10<<10)
	}
	for range 20 {
		conn.Out = codec.AppendMpub(conn.Out, targetTopic, bodies)
		if err := conn.Expect("OK"); err != nil {
			return err
		}
	}
	return conn.Close()
}

// trickle sends a publish so slowly that it may never be done.
func trickle(v victim) {
	for _, b := range publish {
		if !v.send([]byte{b}) || !v.wait(20*time.Millisecond) {
			return
		}
	}
}

// claim announces what never comes.
func claim(v victim) {
	head := bytes.Clone(magic)
	switch v.rand.IntN(4) {
	case 0:
		head = binary.BigEndian.AppendUint32(append(head, "PUB target\n"...), 1<<20)
	case 1: // five million bytes, a million messages, the first of a million bytes
		head = binary.BigEndian.AppendUint32(append(head, "MPUB target\n"...), 5<<20)
		head = binary.BigEndian.AppendUint32(head, 1<<20-1)
		head = binary.BigEndian.AppendUint32(head, 1<<20)
	case 2:
		head = binary.BigEndian.AppendUint32(append(head, "IDENTIFY\n"...), 5<<20)
	case 3:
		head = append(head, bytes.Repeat([]byte("x"), codec.LineMax-1)...)
	}
	if v.send(append(head, "and then nothing"...)) {
		v.untilClosed()
	}
}

// babble speaks the protocol's words in no order, with numbers of any size.
func babble(v victim) {
	out := bytes.Clone(magic)
	words := []string{"PUB target\n", "MPUB target\n", "DPUB target 10\n", "SUB target random#ephemeral\n", "RDY 5\n", "RDY 99999\n", "FIN 0123456789abcdef\n",
		"REQ 0123456789abcdef 0\n", "TOUCH 0123456789abcdef\n", "CLS\n", "NOP\n", "\n", "AUTH\n", "IDENTIFY\n", "PUB bad!\n", "HELLO\n"}
	for range 50 {
		out = append(out, words[v.rand.IntN(len(words))]...)
		for range v.rand.IntN(3) {
			out = binary.BigEndian.AppendUint32(out, v.rand.Uint32()>>v.rand.IntN(32))
		}
	}
	if v.send(out) && v.Conn.(*net.TCPConn).CloseWrite() == nil {
		v.untilClosed()
	}
}

// halfTLS asks for TLS and begins a handshake that it does not end.
func halfTLS(v victim) {
	out := codec.AppendIdentify(bytes.Clone(magic), []byte(`{"feature_negotiation":true,"tls_v1":true}`))
	if !v.send(out) || !v.wait(200*time.Millisecond) {
		return
	}
	if v.rand.IntN(2) == 0 {
		v.send([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01}) // a record of 512 bytes, a ClientHello
	}
	v.untilClosed()
}

// bombBytes are some kilobytes of deflate that become fifty million bytes of NOPs.
var bombBytes = sync.OnceValue(func() []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	piece := bytes.Repeat([]byte("NOP\n"), 1<<18)
	for range 50 {
		if _, err := w.Write(piece); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return out.Bytes()
})

func bomb(v victim) {
	out := codec.AppendIdentify(bytes.Clone(magic), []byte(`{"feature_negotiation":true,"deflate":true}`))
	if v.send(out) && v.wait(200*time.Millisecond) && v.send(bombBytes()) {
		v.wait(2 * time.Second)
	}
}
