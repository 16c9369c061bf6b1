package fanout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// Whatever a message went through before a kill, it comes after it once, no earlier than it should, with one attempt more than it was delivered
// before. Every way is taken for a published and for a deferred message, and over two kills.
func TestAttemptsSurviveAKill(t *testing.T) {
	ways := map[string]struct {
		do       func(t *testing.T, r *rig, c *Consumer) // what happens to the one message
		attempts uint16                                  // of the first delivery after the kill
		wait     time.Duration                           // until that
	}{
		"never claimed": {func(*testing.T, *rig, *Consumer) {}, 1, 0},
		"in flight": {func(t *testing.T, _ *rig, c *Consumer) {
			require.Len(t, c.takeAll(t), 1)
		}, 2, 0},
		"touched": {func(t *testing.T, _ *rig, c *Consumer) {
			require.NoError(t, c.Touch([]byte(c.takeAll(t)[0].id), Now()))
		}, 2, 0},
		"requeued": {func(t *testing.T, _ *rig, c *Consumer) {
			require.NoError(t, c.Req([]byte(c.takeAll(t)[0].id), 0, Now()))
		}, 2, 0},
		"requeued and in flight again": {func(t *testing.T, _ *rig, c *Consumer) {
			for range 5 {
				require.NoError(t, c.Req([]byte(c.takeAll(t)[0].id), 0, Now()))
			}
			require.Len(t, c.takeAll(t), 1)
		}, 7, 0},
		"requeued with a delay": {func(t *testing.T, _ *rig, c *Consumer) {
			require.NoError(t, c.Req([]byte(c.takeAll(t)[0].id), time.Minute, Now()))
		}, 2, time.Minute},
		"requeued with delays of which some are past": {func(t *testing.T, _ *rig, c *Consumer) {
			for _, delay := range []time.Duration{10 * time.Second, time.Second, time.Minute} {
				require.NoError(t, c.Req([]byte(c.takeAll(t)[0].id), delay, Now()))
				c.EndBatch()
				if delay < time.Minute {
					time.Sleep(delay + time.Millisecond)
				}
			}
		}, 4, time.Minute},
		"timed out": {func(t *testing.T, _ *rig, c *Consumer) {
			require.Len(t, c.takeAll(t), 1)
			time.Sleep(time.Hour)
			require.Equal(t, 1, c.Expire(Now()))
		}, 2, 0},
		"released by a closed connection": {func(t *testing.T, _ *rig, c *Consumer) {
			require.Len(t, c.takeAll(t), 1)
			c.Close(Now())
		}, 2, 0},
		"claimed and not a byte of it written": {func(t *testing.T, _ *rig, c *Consumer) {
			var s Scratch
			var run Run
			require.True(t, c.Claim(Now(), &s, &run))
			c.Unwritten(&run, 0)
			run.Release()
			c.Close(Now())
		}, 2, 0}, // nobody knows after a kill that nothing was written
	}
	for name, way := range ways {
		for _, deferred := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", deferred"}[deferred], func(t *testing.T) {
				inBubble(t, func() {
					r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MsgTimeout: time.Minute})
					c := r.sub(t, "t", "c", 10, ConsumerOptions{})
					if deferred {
						_, err := c.Channel().Topic().PublishDeferredWait([]byte("m"), time.Second)
						require.NoError(t, err)
						time.Sleep(time.Second + time.Millisecond)
					} else {
						r.pub(t, "t", "m")
					}
					way.do(t, r, c)
					c.EndBatch()
					r = r.crash(t, mmapq.Options{}, Options{MsgTimeout: time.Minute})
					c = r.sub(t, "t", "c", 10, ConsumerOptions{})
					if way.wait > 0 {
						require.Empty(t, c.takeAll(t))
						time.Sleep(way.wait + time.Millisecond)
					}
					for i := range uint16(2) {
						time.Sleep(time.Millisecond) // what is due goes by way of the clock
						ds := c.takeAll(t)
						require.Equal(t, []string{"m"}, bodies(ds))
						require.Equal(t, way.attempts+i, ds[0].attempts)
						r = r.crash(t, mmapq.Options{}, Options{})
						c = r.sub(t, "t", "c", 10, ConsumerOptions{})
					}
					time.Sleep(time.Millisecond)
					require.NoError(t, c.Fin([]byte(c.takeAll(t)[0].id), Now()))
					c.EndBatch()
					r = r.crash(t, mmapq.Options{}, Options{})
					defer r.Close()
					time.Sleep(time.Millisecond)
					require.Empty(t, r.sub(t, "t", "c", 10, ConsumerOptions{}).takeAll(t), "finished")
				})
			})
		}
	}
}
