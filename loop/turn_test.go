package loop

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

// Deliveries of many channels at once are cut into turns, and who had to wait is first in the next.
func TestDeliveriesShareATurn(t *testing.T) {
	s := serve(t, nil)
	b := idleLoop(s)
	topic := b.warmTopic(t, "t")
	const runsPerTurn = deliverTurn / runCost
	const consumers = runsPerTurn*2 + 10
	conns := make([]*conn, consumers)
	for i := range conns {
		conn, c := b.connect(t)
		b.readable(conn, []byte(fmt.Sprintf("%sSUB t ch%d\nRDY 1\n", codec.MagicV2, i)))
		c.wantOK()
		conns[i] = conn
	}
	inFlight := func() (n int) {
		for _, c := range conns {
			n += c.cons.InFlight()
		}
		return n
	}
	b.turn()
	require.Zero(t, inFlight())
	_, err := topic.PublishWait([][]byte{[]byte("x")})
	require.NoError(t, err)
	b.rung()
	require.Equal(t, runsPerTurn, inFlight())
	b.resumed()
	require.Equal(t, 2*runsPerTurn, inFlight())
	b.resumed()
	require.Equal(t, consumers, inFlight())
	require.Empty(t, b.unfinished)
}

// What a few bytes expand to is decoded in turns, and connections that all have such input share one.
func TestExpandingInputSharesATurn(t *testing.T) {
	s := serve(t, nil)
	b := idleLoop(s)
	bomb := []byte("PUB t\n\x00\x10\x00\x00" + string(rune(xorRepeat)) + "x")
	for i := range bomb {
		bomb[i] ^= xorKey
	}
	var conns []*conn
	for range 3 {
		conn, _ := b.connect(t)
		b.readable(conn, []byte(codec.MagicV2))
		conn.filter = &xorFilter{}
		b.readable(conn, bomb)
		conns = append(conns, conn)
	}
	require.Equal(t, conns, b.pausing)
	b.resumed()
	require.Equal(t, []*conn{conns[1], conns[2], conns[0]}, b.pausing)
	b.resumed()
	require.Equal(t, []*conn{conns[2], conns[0], conns[1]}, b.pausing)
}
