package fanout

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// Between a kill and the start after it the wall clock is stepped. What was deferred, by DPUB and by REQ, waits as long as it should: by the time
// since the boot. Only after another boot nothing is known but the wall clock.
func TestWallClockSteppedBetweenStarts(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		boot string
		down time.Duration // how long nobody ran
		wall time.Duration // what the wall clock says of that
		left time.Duration // how long a message deferred for an hour still waits
	}{
		"no step":              {"one", 10 * time.Minute, 10 * time.Minute, 50 * time.Minute},
		"a day ahead":          {"one", 10 * time.Minute, 10*time.Minute + day, 50 * time.Minute},
		"a day ahead, at once": {"one", 0, day, time.Hour},
		"a day back":           {"one", 10*time.Minute + day, 10 * time.Minute, 0},
		"half an hour back":    {"one", 40 * time.Minute, 10 * time.Minute, 20 * time.Minute},
		"another boot":         {"two", 10 * time.Minute, 20 * time.Minute, 40 * time.Minute},
		"boot not known":       {"", 10 * time.Minute, 20 * time.Minute, 40 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func() {
				up := 5 * time.Hour
				store := mmapq.Options{Clock: &mmapq.BootClock{Boot: "one", Up: up, Wall: Now()}}
				began := Now()
				r := openRig(t, mmapq.NewHeapDisk(), store, Options{})
				a, b := r.sub(t, "t", "a", 10, ConsumerOptions{}), r.sub(t, "t", "b", 10, ConsumerOptions{})
				_, err := a.Channel().Topic().PublishDeferredWait([]byte("dpub"), time.Hour)
				require.NoError(t, err)
				r.pub(t, "t", "req")
				require.NoError(t, a.Req([]byte(a.take(t)[0].id), time.Hour, Now()))
				a.EndBatch()
				require.Len(t, b.take(t), 1)
				// The process is killed, and twice more soon after its start: the clock is remembered over all of them.
				r.Abandon()
				time.Sleep(c.wall)
				store.Clock = &mmapq.BootClock{Boot: c.boot, Up: up + time.Duration(Now()-began) - c.wall + c.down, Wall: Now()}
				r = openRig(t, r.disk, store, Options{})
				for range 2 {
					r = r.crash(t, store, Options{})
				}
				defer r.Close()
				a = r.sub(t, "t", "a", 10, ConsumerOptions{})
				if c.left > 0 {
					require.EqualValues(t, 2, a.Channel().Stats().Deferred)
					time.Sleep(c.left - 2*time.Millisecond)
					require.Empty(t, a.takeAll(t), "early")
					time.Sleep(4 * time.Millisecond)
				}
				time.Sleep(time.Millisecond)
				got := map[string]uint16{}
				for _, d := range a.takeAll(t) {
					got[d.body] = d.attempts
				}
				require.Equal(t, map[string]uint16{"dpub": 1, "req": 2}, got, fmt.Sprint("late by ", time.Duration(Now()-began)))
			})
		})
	}
}
