package mmapq

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRunBegun: how much of a run a lost connection was sent is told from the frames that were sent, and only while they are in memory.
func TestRunBegun(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	meta, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	appendAll(t, l, [][]byte{[]byte("a"), []byte("bb"), make([]byte, 5000), []byte("d")})
	r, _ := l.Run(meta.Base[StreamMain]+1, l.Committed(), 10, 1<<20)
	defer r.Release()
	require.Equal(t, 3, r.N)
	second := FrameHeader + 2
	third := second + FrameHeader + 5000
	begin := r.seg.offset(r.index)
	for _, c := range []struct{ sent, n int }{
		{-1, 0}, {0, 0}, {1, 1}, {second, 1}, {second + 1, 2}, {third - 1, 2}, {third, 2}, {third + 1, 3}, {len(r.Bytes), 3}, {1 << 30, 3},
	} {
		asked := 0
		r.seg.slot.m.resident = func(off, n int) bool {
			require.EqualValues(t, begin, off)
			asked = n
			return true
		}
		n, ok := r.Begun(c.sent)
		require.True(t, ok)
		require.Equal(t, c.n, n, "%d bytes", c.sent)
		require.LessOrEqual(t, min(c.sent, len(r.Bytes)), asked, "what is not sent is not looked at, what is was asked for")
		require.LessOrEqual(t, asked, max(0, c.sent+4))

		r.seg.slot.m.resident = func(int, int) bool { return false }
		_, ok = r.Begun(c.sent)
		require.Equal(t, c.sent <= 0, ok)
	}
}
