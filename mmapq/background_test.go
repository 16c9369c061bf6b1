package mmapq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBackgroundVerification: damage in segments that nobody reads becomes known, and what was checked is not checked again by readers.
func TestBackgroundVerification(t *testing.T) {
	d, st, l, want := coldLog(t, small)
	segs := *l.segs.Load()
	unscanned := int64(0)
	for _, s := range segs {
		if s.unscanned {
			unscanned++
		}
	}
	require.Greater(t, unscanned, int64(3))
	hit := segs[2]
	hit.mem[hit.offset(9)+FrameHeader] ^= 4
	st.wg.Add(1)
	go st.verifyAll(0, 1<<50)
	require.Eventually(t, func() bool { return st.Recovered().Verified == unscanned }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, st.Recovered().Damaged)
	requirePins(t, l)
	require.NotZero(t, st.fetch.reads.Load())
	got, fetches := readCold(t, l, d, 256)
	require.LessOrEqual(t, fetches, 1, "all of it is in memory but the segment that the start read")
	require.Len(t, got, len(want)-1)
	require.EqualValues(t, 1, st.Recovered().Damaged, "counted once")
	require.EqualValues(t, segs[1].count, segs[1].checked.Load())
}

// TestBackgroundVerificationEnds: with the store, whatever it waits for.
func TestBackgroundVerificationEnds(t *testing.T) {
	_, st, l, _ := coldLog(t, small)
	st.wg.Add(2)
	go st.verifyAll(time.Hour, 1)
	go st.verifyAll(0, 1) // a block takes days
	require.Eventually(t, func() bool { return (*l.segs.Load())[0].checked.Load() > 0 }, 10*time.Second, time.Millisecond)
	st.Abandon()
	requirePins(t, l)
}
