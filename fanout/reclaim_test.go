package fanout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

var smallSegments = mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1} // nothing is kept for reuse

// big is n bodies of which about sixty fill a segment.
func big(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i, "|", strings.Repeat("x", 1000)))
	}
	return list
}

// What Empty of a topic drops is freed though nobody consumes the channels that would have to pass it.
func TestEmptiedTopicIsFreed(t *testing.T) {
	inBubble(t, func() {
		disk := mmapq.NewHeapDisk()
		r := openRig(t, disk, smallSegments, Options{})
		defer r.Close()
		r.pub(t, "t")
		tp := r.LookupTopic("t")
		_, err := tp.Channel([]byte("c"))
		require.NoError(t, err)
		require.NoError(t, tp.SetPaused(true))
		r.pub(t, "t", big(1000)...)
		require.Greater(t, len(segmentFiles(t, disk)), 15)
		require.NoError(t, tp.Empty())
		time.Sleep(3 * time.Second)
		require.LessOrEqual(t, len(segmentFiles(t, disk)), 2)
	})
}

// What was finished before a kill is freed after it without anything being finished again.
func TestFinishedBeforeAKillIsFreed(t *testing.T) {
	inBubble(t, func() {
		disk := mmapq.NewHeapDisk()
		r := openRig(t, disk, smallSegments, Options{})
		c := r.sub(t, "t", "c", 5000, ConsumerOptions{})
		r.pub(t, "t", big(1000)...)
		for _, d := range c.takeAll(t) {
			require.NoError(t, c.Fin([]byte(d.id), Now()))
		}
		c.StoreFins()                            // as before an answer
		r = r.crash(t, smallSegments, Options{}) // no EndBatch: the reclaimer was not told
		defer r.Close()
		require.Greater(t, len(segmentFiles(t, disk)), 15)
		time.Sleep(3 * time.Second)
		require.LessOrEqual(t, len(segmentFiles(t, disk)), 2)
	})
}

// One unfinished message keeps its segment and nothing else, wherever it waits: in flight, put back, deferred. Then it goes.
func TestOneMessageKeepsItsSegment(t *testing.T) {
	for name, hold := range map[string]func(*Consumer, []byte) error{
		"in flight": func(*Consumer, []byte) error { return nil },
		"put back":  func(c *Consumer, id []byte) error { return c.Req(id, 0, Now()) },
		"deferred":  func(c *Consumer, id []byte) error { return c.Req(id, time.Hour, Now()) },
		"touched":   func(c *Consumer, id []byte) error { return c.Touch(id, Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func() {
				disk := mmapq.NewHeapDisk()
				r := openRig(t, disk, smallSegments, Options{MsgTimeout: time.Minute})
				defer r.Close()
				c := r.sub(t, "t", "c", 5000, ConsumerOptions{})
				r.pub(t, "t", big(1000)...)
				ds := c.takeAll(t)
				for i, d := range ds {
					if i != 500 {
						require.NoError(t, c.Fin([]byte(d.id), Now()))
					}
				}
				require.NoError(t, hold(c, []byte(ds[500].id)))
				c.EndBatch()
				time.Sleep(time.Second)
				require.LessOrEqual(t, len(segmentFiles(t, disk)), 3)
				require.Zero(t, c.Channel().Stats().Depth-map[bool]int64{true: 1}[name == "put back"])
				time.Sleep(time.Hour)
				c.Expire(Now())
				d := c.takeAll(t)
				require.Equal(t, []string{ds[500].body}, bodies(d))
				require.EqualValues(t, 2, d[0].attempts)
				require.NoError(t, c.Fin([]byte(d[0].id), Now()))
				c.EndBatch()
				time.Sleep(time.Second)
				require.LessOrEqual(t, len(segmentFiles(t, disk)), 2)
			})
		})
	}
}

// Deleted topics and channels leave no file behind, as soon as the last connection has let go.
func TestDeletedLeavesNothing(t *testing.T) {
	inBubble(t, func() {
		disk := mmapq.NewHeapDisk()
		r := openRig(t, disk, smallSegments, Options{})
		defer r.Close()
		c := r.sub(t, "t", "c", 100, ConsumerOptions{})
		d := r.sub(t, "t", "d", 100, ConsumerOptions{})
		r.pub(t, "t", big(300)...)
		var s Scratch
		var run Run
		require.True(t, c.Claim(Now(), &s, &run))
		require.True(t, run.Pinned)
		require.NotEmpty(t, d.take(t))
		_, err := r.DeleteTopic("t")
		require.NoError(t, err)
		d.Close(Now())
		time.Sleep(2 * time.Second)
		require.NotEmpty(t, segmentFiles(t, disk), "a run is still being written")
		require.Equal(t, byte('|'), run.Bytes[35])
		require.NoError(t, c.Fin(run.Bytes[18:34], Now()), "its state is still there")
		run.Release()
		c.Close(Now())
		time.Sleep(2 * time.Second)
		names, err := disk.List()
		require.NoError(t, err)
		for _, n := range names {
			require.True(t, n == mmapq.ManifestName || n == "nsqloop.channels" || n == "nsqloop.reserve", n)
		}
	})
}

// All that was stored is dropped and freed, and no channel that is on the disk remembers where it was: what is published after the next start
// must not lie where the dropped range is recorded.
func TestDroppedPositionsAreNotUsedAgain(t *testing.T) {
	inBubble(t, func() {
		disk := mmapq.NewHeapDisk()
		r := openRig(t, disk, smallSegments, Options{})
		r.pub(t, "t", "dropped")
		r = r.crash(t, smallSegments, Options{}) // nothing is appended behind what was recovered
		require.NoError(t, r.LookupTopic("t").Empty())
		_, err := r.LookupTopic("t").Channel([]byte("c#ephemeral")) // opens the topic
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		require.Empty(t, segmentFiles(t, disk))
		r = r.crash(t, smallSegments, Options{})
		r.pub(t, "t", "kept")
		r = r.crash(t, smallSegments, Options{})
		defer r.Close()
		require.EqualValues(t, 1, r.LookupTopic("t").Stats().Depth)
		require.Equal(t, []string{"kept"}, bodies(r.sub(t, "t", "c", 10, ConsumerOptions{}).takeAll(t)))
	})
}
