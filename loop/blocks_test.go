package loop

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBlockClasses(t *testing.T) {
	var p blockPool
	for _, x := range []struct{ ask, get int }{
		{0, 1 << 10}, {1, 1 << 10}, {1 << 10, 1 << 10}, {1<<10 + 1, 4 << 10}, {4 << 10, 4 << 10}, {4<<10 + 1, 16 << 10},
		{256 << 10, 256 << 10}, {1<<20 + 1, 4 << 20}, {4 << 20, 4 << 20}, {4<<20 + 1, 4<<20 + 1},
	} {
		b := p.get(x.ask)
		require.Equal(t, x.get, cap(b))
		require.Empty(t, b)
		p.put(b)
	}
}

func TestBlocksAreReusedAndBounded(t *testing.T) {
	var p blockPool
	b := append(p.get(10), "x"...)
	p.put(b)
	again := p.get(10)
	require.Empty(t, again)
	require.Same(t, &b[0], &again[:1][0])

	for range 100 {
		p.put(make([]byte, 0, 64<<10))
		p.put(make([]byte, 0, 4<<20))
		p.put(make([]byte, 0, 70_000)) // not one of ours
	}
	total := 0
	for _, free := range p.free {
		for _, b := range free {
			total += cap(b)
		}
	}
	require.LessOrEqual(t, total, blockKept+(4<<20))
}

func TestBlockGrow(t *testing.T) {
	var p blockPool
	rnd := rand.New(rand.NewPCG(1, 2))
	var b, want []byte
	for len(want) < 6<<20 {
		piece := bytes.Repeat([]byte{byte(rnd.Int())}, rnd.IntN(100_000))
		b, want = p.grow(b, piece), append(want, piece...)
		require.LessOrEqual(t, cap(b), max(1<<10, 8*len(b)), "grows by what came")
	}
	require.True(t, bytes.Equal(want, b))
}

func TestConnList(t *testing.T) {
	l := connList{kind: linkReady}
	other := connList{kind: linkReady}
	cs := []*conn{{}, {}, {}}
	for _, c := range cs {
		require.True(t, l.pushBack(c))
		require.False(t, l.pushBack(c))
		require.False(t, other.pushBack(c), "one list of a kind at a time")
	}
	order := func() (out []*conn) {
		for c := l.first; c != nil; c = l.after(c) {
			out = append(out, c)
		}
		require.Len(t, out, l.size)
		return out
	}
	require.Equal(t, cs, order())
	l.rotate()
	require.Equal(t, []*conn{cs[1], cs[2], cs[0]}, order())
	require.True(t, l.remove(cs[2]))
	require.False(t, l.remove(cs[2]))
	require.True(t, other.pushBack(cs[2]))
	require.False(t, l.remove(cs[2]), "on another list")
	require.Equal(t, []*conn{cs[1], cs[0]}, order())
	require.True(t, l.remove(cs[0]))
	require.True(t, l.remove(cs[1]))
	require.Empty(t, order())
	require.Nil(t, l.last)
}
