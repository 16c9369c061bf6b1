package mmapq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestClockIsNeverAhead: however far apart the readings of the two clocks lie, the directory's clock does not run ahead of the time that went by,
// and lags by no more than that.
func TestClockIsNeverAhead(t *testing.T) {
	for _, spread := range []time.Duration{0, 100, 5 * time.Millisecond} {
		for truth := time.Duration(0); truth <= spread; truth += max(1, spread/4) { // when, after Up, Wall was really read
			d := NewHeapDisk()
			first := &BootClock{Boot: "b", Up: time.Hour, Wall: 1e18 + int64(truth), Spread: spread}
			o := small
			o.Clock = first
			open(t, d, o).Abandon()
			for again := time.Duration(0); again <= spread; again += max(1, spread/4) {
				o.Clock = &BootClock{Boot: "b", Up: 2 * time.Hour, Wall: 1e18 + int64(time.Hour+again), Spread: spread}
				st := open(t, d, o)
				require.LessOrEqual(t, st.ClockLead(), int64(0))
				require.GreaterOrEqual(t, st.ClockLead(), -int64(2*spread))
				st.Abandon()
			}
		}
	}
}

func TestBootClock(t *testing.T) {
	c := readBootClock()
	require.NotEmpty(t, c.Boot)
	require.Less(t, c.Spread, time.Second)
	require.InDelta(t, time.Now().UnixNano(), c.Wall, float64(10*time.Second))
}
