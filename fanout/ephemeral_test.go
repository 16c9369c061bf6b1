package fanout

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

func TestEphemeralWithoutMemoryQueue(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MemQueueSize: -1})
	defer r.Close()
	c := r.sub(t, "t", "c#ephemeral", 3, ConsumerOptions{})
	r.pub(t, "t", numbers(0, 10)...)
	require.Equal(t, numbers(0, 3), bodies(c.takeAll(t)), "who waits gets something, the rest is dropped")
	require.Zero(t, c.Channel().Stats().Depth)
	require.EqualValues(t, 10, c.Channel().Stats().MessageCount, "counters rise all the same")
	c.SetReady(6)
	require.Empty(t, c.takeAll(t))
	r.pub(t, "t", "now")
	require.Equal(t, []string{"now"}, bodies(c.takeAll(t)))
}

// An ordinary channel of an ephemeral topic drops nothing and stays when its last consumer goes.
func TestOrdinaryChannelOfEphemeralTopic(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MemQueueSize: 10})
	defer r.Close()
	c := r.sub(t, "t#ephemeral", "c", 5, ConsumerOptions{})
	r.pub(t, "t#ephemeral", numbers(0, 25)...)
	s := c.Channel().Stats()
	require.EqualValues(t, 25, s.Depth)
	require.EqualValues(t, 15, s.BackendDepth)
	c.SetReady(100)
	require.Equal(t, numbers(0, 25), bodies(c.takeAll(t)))
	c.Close(Now())
	require.NotNil(t, r.LookupTopic("t#ephemeral").LookupChannel("c"))
}

// What the list of topics and channels would not show is no change of it.
func TestChangesAreOfDurableNames(t *testing.T) {
	changes := 0
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{Changed: func() { changes++ }})
	defer r.Close()
	count := func(what string, want int, f func()) {
		t.Helper()
		changes = 0
		f()
		require.Equal(t, want, changes, what)
	}
	topicOf := func(name string) *Topic {
		tp, err := r.Topic([]byte(name))
		require.NoError(t, err)
		return tp
	}
	durable := topicOf("t")
	for _, topic := range []string{"t", "t#ephemeral"} {
		for _, channel := range []string{"c", "c#ephemeral"} {
			tp := topicOf(topic)
			want := 0
			if topic == "t" && channel == "c" {
				want = 1
			}
			count("made", want, func() {
				_, err := tp.Channel([]byte(channel))
				require.NoError(t, err)
			})
			count("deleted", want, func() {
				_, err := tp.DeleteChannel(channel)
				require.NoError(t, err)
			})
		}
	}
	count("topic made", 1, func() { topicOf("u") })
	count("topic deleted", 1, func() {
		_, err := r.DeleteTopic("u")
		require.NoError(t, err)
	})
	count("ephemeral topic", 0, func() {
		topicOf("v#ephemeral")
		_, err := r.DeleteTopic("v#ephemeral")
		require.NoError(t, err)
	})
	count("paused", 1, func() { require.NoError(t, durable.SetPaused(true)) })
}

func TestEphemeralTopicWithoutChannelIsBounded(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MemQueueSize: 10})
	defer r.Close()
	r.pub(t, "t#ephemeral", numbers(0, 7)...)
	tp := r.LookupTopic("t#ephemeral")
	_, done, err := tp.Publish([][]byte{[]byte("m7"), []byte("m8"), []byte("m9"), []byte("m10")})
	require.NoError(t, err)
	require.Equal(t, 4, done, "the publisher is not told")
	_, err = tp.PublishDeferredWait([]byte("late"), time.Hour)
	require.NoError(t, err)
	s := tp.Stats()
	require.EqualValues(t, 10, s.Depth)
	require.EqualValues(t, 12, s.MessageCount)
	c := r.sub(t, "t#ephemeral", "c", 100, ConsumerOptions{})
	require.Equal(t, numbers(0, 10), bodies(c.takeAll(t)))
	require.Zero(t, c.Channel().Stats().Deferred)
}

// The segments of a flood that nobody reads are freed, whether the topic has files or not.
func TestEphemeralOverflowFreesSegments(t *testing.T) {
	for _, name := range []string{"t", "t#ephemeral"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func() {
				disk := mmapq.NewHeapDisk()
				r := openRig(t, disk, mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1}, Options{MemQueueSize: 100})
				defer r.Close()
				c := r.sub(t, name, "c#ephemeral", 30, ConsumerOptions{})
				require.Empty(t, c.take(t))
				body := strings.Repeat("x", 1000)
				list := make([]string, 1000)
				for i := range list {
					list[i] = body
				}
				before := heapInUse()
				for range 60 { // 60 MB, a MB between two looks of the reclaimer
					r.pub(t, name, list...)
					time.Sleep(1100 * time.Millisecond)
				}
				require.LessOrEqual(t, len(segmentFiles(t, disk)), 2*1100/60, "what one second brings, and what stays")
				require.Less(t, heapInUse()-before, int64(8<<20))
				s := c.Channel().Stats()
				require.EqualValues(t, 100, s.Depth)
				require.EqualValues(t, 60000, s.MessageCount)
				c.SetReady(200)
				for range 2 { // what was freed lies between what stayed and what comes
					require.Len(t, c.takeAll(t), 100)
					require.NoError(t, c.Channel().Empty())
					r.pub(t, name, list[:100]...)
				}
			})
		})
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func segmentFiles(t *testing.T, disk mmapq.Disk) (list []string) {
	names, err := disk.List()
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ".seg") {
			list = append(list, n)
		}
	}
	return list
}

// inBubble runs f in fake time. A bubble begins in 2000, positions in 2020.
func inBubble(t *testing.T, f func()) {
	synctest.Test(t, func(*testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour)
		f()
	})
}

// Consumers that come and go: who subscribes gets a channel that lives, and nothing is left at the end.
func TestEphemeralChurn(t *testing.T) {
	disk := mmapq.NewHeapDisk()
	r := openRig(t, disk, mmapq.Options{}, Options{})
	const loops, rounds = 4, 400
	r.pub(t, "durable")
	var wg sync.WaitGroup
	var refused, delivered atomic.Int64
	for i := range loops {
		r.AttachLoop(i, newTestSink())
		wg.Go(func() {
			for k := range rounds {
				topic := []string{"durable", "t#ephemeral"}[k%2]
				c, err := subscribeLikeALoop(r.Broker, i, topic, "c#ephemeral")
				if errors.Is(err, ErrExiting) {
					refused.Add(1)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				c.SetReady(100)
				tp := c.Channel().Topic()
				if _, err := tp.PublishWait([][]byte{fmt.Append(nil, i, k)}); err != nil {
					t.Errorf("the topic of a live consumer: %v", err)
				}
				delivered.Add(int64(len(c.takeAll(t)))) // what it publishes it gets, or another consumer of the channel
				c.Close(Now())
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, refused.Load(), int64(loops*rounds/100), "immediate retries suffice")
	require.Nil(t, r.LookupTopic("t#ephemeral"))
	require.Empty(t, r.LookupTopic("durable").Channels())
	require.NotZero(t, delivered.Load())
	r = r.crash(t, mmapq.Options{}, Options{})
	require.Len(t, r.Topics(), 1)
	require.NoError(t, r.Close())
}

// subscribeLikeALoop tries a few times without waiting.
func subscribeLikeALoop(b *Broker, loop int, topic, channel string) (c *Consumer, err error) {
	for range 3 {
		var t *Topic
		var ch *Channel
		if t, err = b.Topic([]byte(topic)); err == nil {
			if ch, err = t.Channel([]byte(channel)); err == nil {
				c, err = ch.AddConsumer(loop, ConsumerOptions{})
			}
		}
		if !errors.Is(err, ErrExiting) {
			return c, err
		}
	}
	return nil, err
}

// The last consumer's channel may have got another consumer, or be gone and have a successor, by the time it is to be deleted.
func TestEphemeralDeletionLooksAgain(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	a := r.sub(t, "t", "c#ephemeral", 1, ConsumerOptions{})
	tp, old := a.Channel().Topic(), a.Channel()
	require.NoError(t, tp.deleteIdle(old))
	require.Same(t, old, tp.LookupChannel("c#ephemeral"), "it has a consumer")
	_, err := tp.DeleteChannel("c#ephemeral")
	require.NoError(t, err)
	b := r.sub(t, "t", "c#ephemeral", 1, ConsumerOptions{})
	a.Close(Now())
	require.Same(t, b.Channel(), tp.LookupChannel("c#ephemeral"), "the successor stays")
	b.Close(Now())
	require.Nil(t, tp.LookupChannel("c#ephemeral"))
}

func TestEphemeralTopicHasASuccessorAtOnce(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	tp, err := r.Topic([]byte("t#ephemeral"))
	require.NoError(t, err)
	tp.mu.Lock()
	tp.end() // the moment between the end of the last channel and that of the topic
	tp.mu.Unlock()
	_, err = tp.Channel([]byte("c"))
	require.ErrorIs(t, err, ErrExiting)
	next, err := r.Topic([]byte("t#ephemeral"))
	require.NoError(t, err)
	require.NotSame(t, tp, next)
	ok, err := tp.destroy()
	require.NoError(t, err)
	require.True(t, ok)
	require.Same(t, next, r.LookupTopic("t#ephemeral"), "the successor stays")
}

// Segments are freed inside what is dropped, not at its edges: what stays before, between and behind is delivered.
func TestEphemeralOverflowKeepsTheEdges(t *testing.T) {
	inBubble(t, func() {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1}, Options{MemQueueSize: 10})
		defer r.Close()
		c := r.sub(t, "t", "c#ephemeral", 5, ConsumerOptions{})
		var want []string
		number := 0
		flood := func(n, kept int) {
			var list []string
			for range n {
				list = append(list, fmt.Sprint(number, "|", strings.Repeat("x", 1000)))
				number++
			}
			r.pub(t, "t", list...)
			want = append(want, list[:kept]...)
			c.Channel().Stats() // applies the bound
			time.Sleep(2 * time.Second)
		}
		flood(150, 10)
		for range 30 { // each time five are delivered and five more stay, in the middle of some segment
			got := bodies(c.takeAll(t))
			require.Equal(t, want[:5], got)
			want = want[5:]
			c.lease.clear() // as if finished
			flood(41, 5)
		}
		c.SetReady(100)
		require.Equal(t, want, bodies(c.takeAll(t)))
	})
}
