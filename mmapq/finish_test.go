package mmapq

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFinishRange: every beginning and end within a few words, across the end of what is allocated and of a window, and nothing beside it.
func TestFinishRange(t *testing.T) {
	st := open(t, NewHeapDisk(), small)
	for _, at := range []Pos{0, stateFirst / 2, stateMessages} {
		for from := Pos(0); from < 9; from++ {
			for n := Pos(0); n < 14; n++ {
				s := newState(st, "", 3*stateMessages)
				low := s.base + max(at, 10) - 10
				s.Ensure(low, 40)
				require.True(t, s.SetAttempts(low+from+n, 7))
				require.Equal(t, low+from+n, s.FinishRange(low+from, low+from+n))
				for p := low; p < low+40; p++ {
					want := uint16(0)
					switch {
					case p == low+from+n:
						want = 7
					case p >= low+from && p < low+from+n:
						want = Finished
					}
					require.Equal(t, want, s.Get(p), "%d messages from %d: %d", n, low+from, p)
				}
			}
		}
	}
	s := newState(st, stateName(1, StreamMain), 0)
	require.Equal(t, Pos(5), s.FinishRange(5, 9), "no window")
	s.Ensure(5, 1)
	end := Pos(stateFirst / 2)
	require.Equal(t, end, s.FinishRange(end-5, end+5), "what is not allocated is not touched")
	require.Equal(t, uint16(Finished), s.Get(end-1))
	require.Equal(t, uint16(0), s.Get(end))
	require.NoError(t, s.Close())
}
