package fanout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// dueSink notes when channels were woken, and parks them again.
type dueSink struct {
	testSink
	mu   sync.Mutex
	rang map[*Channel]int64 // when, Now()
}

func (s *dueSink) WakeChannel(ch *Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rang[ch] = Now()
}

func (s *dueSink) take() map[*Channel]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	rang := s.rang
	s.rang = map[*Channel]int64{}
	return rang
}

// Many channels with messages due at random times: each comes in the millisecond it is due, none early, those of a channel in order, and one
// with the same due time as another in the order of publishing.
func TestDueTimesOfManyChannels(t *testing.T) {
	inBubble(t, func() {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		defer r.Close()
		sink := &dueSink{rang: map[*Channel]int64{}}
		r.AttachLoop(0, sink)
		const topics, channels, messages = 20, 10, 30
		rng := rand.New(rand.NewPCG(1, 1))
		consumers := map[*Channel]*Consumer{}
		time.Sleep(time.Duration(int64(time.Millisecond)-Now()%int64(time.Millisecond)) + 300*time.Microsecond) // no round time: due times are kept in ms
		began := Now()
		for i := range topics {
			name := fmt.Sprint("t", i)
			for k := range channels {
				c := r.sub(t, name, fmt.Sprint("c", k), 1000, ConsumerOptions{})
				consumers[c.Channel()] = c
				require.False(t, c.Channel().Park(0))
			}
			for k := range messages {
				delay := time.Duration(rng.IntN(400)) * 10 * time.Millisecond
				_, err := r.LookupTopic(name).PublishDeferredWait(fmt.Appendf(nil, "%d %d", delay, k), delay)
				require.NoError(t, err)
			}
		}
		total := 0
		last := map[*Channel][2]int{}
		for range 4100 {
			for ch, at := range sink.take() {
				c := consumers[ch]
				for _, d := range c.takeAll(t) {
					a, b, _ := strings.Cut(d.body, " ")
					delay, _ := strconv.Atoi(a)
					k, _ := strconv.Atoi(b)
					require.EqualValues(t, 1, d.attempts)
					require.GreaterOrEqual(t, at, began+int64(delay), "early")
					require.LessOrEqual(t, Now(), began+int64(delay)+2*int64(time.Millisecond), "late")
					was := last[ch]
					require.LessOrEqual(t, slices.Compare(was[:], []int{delay, k}), 0, "after %v came %d %d", was, delay, k)
					last[ch] = [2]int{delay, k}
					total++
				}
				require.False(t, ch.Park(0))
			}
			time.Sleep(time.Millisecond)
		}
		require.Equal(t, topics*channels*messages, total)
		r.clock.mu.Lock()
		defer r.clock.mu.Unlock()
		require.Empty(t, r.clock.heap)
	})
}

// The clock needs no more entries than there are messages, however their due times come.
func TestClockStaysSmall(t *testing.T) {
	inBubble(t, func() {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		defer r.Close()
		c := r.sub(t, "t", "c", 5000, ConsumerOptions{})
		r.pub(t, "t", numbers(0, 1000)...)
		for round := range 5 {
			ds := c.takeAll(t)
			require.Len(t, ds, 1000)
			for i, d := range ds { // each earlier than the one before
				require.NoError(t, c.Req([]byte(d.id), time.Duration(1000-i)*time.Millisecond, Now()))
			}
			c.EndBatch()
			r.clock.mu.Lock()
			require.LessOrEqual(t, len(r.clock.heap), 1000, "round %d", round)
			r.clock.mu.Unlock()
			time.Sleep(2 * time.Second)
		}
		r.clock.mu.Lock()
		require.Empty(t, r.clock.heap)
		r.clock.mu.Unlock()
	})
}

// A hundred thousand messages wait for an hour: what that costs the Go heap (the log is not in it).
func TestMemoryOfDeferredMessages(t *testing.T) {
	r := openRig(t, mmapq.NewRealDisk(t.TempDir()), mmapq.Options{}, Options{})
	defer r.Close()
	const n = 100_000
	c := r.sub(t, "t", "c", n, ConsumerOptions{})
	tp := c.Channel().Topic()
	before := heapInUse()
	body := []byte("wait")
	for range n {
		_, err := tp.PublishDeferredWait(body, time.Hour)
		require.NoError(t, err)
	}
	require.EqualValues(t, n, c.Channel().Stats().Deferred)
	per := float64(heapInUse()-before) / n
	t.Logf("%.1f bytes of heap per deferred message", per)
	require.Less(t, per, 40.0)
	require.NoError(t, c.Channel().Empty())
	require.Less(t, float64(heapInUse()-before)/n, 4.0, "and nothing after Empty")
}

// The clock of deadlines goes on evenly whatever the wall clock does: it is the wall clock of the start plus the monotonic time since.
func TestNowIsSteady(t *testing.T) {
	require.Equal(t, wallAtStart, processStart.UnixNano())
	a, b := Now(), time.Now()
	require.InDelta(t, wallAtStart+int64(b.Sub(processStart)), a, float64(time.Second))
	for range 1000 {
		b := Now()
		require.GreaterOrEqual(t, b, a)
		a = b
	}
}

// While a message waits its topic may be paused and its channel, it is due all the same, and delivered when that ends.
func TestDueWhilePaused(t *testing.T) {
	inBubble(t, func() {
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
		defer r.Close()
		c := r.sub(t, "t", "c", 10, ConsumerOptions{})
		tp := c.Channel().Topic()
		_, err := tp.PublishDeferredWait([]byte("before"), time.Second)
		require.NoError(t, err)
		require.NoError(t, tp.SetPaused(true))
		_, err = tp.PublishDeferredWait([]byte("held"), time.Millisecond)
		require.NoError(t, err)
		require.NoError(t, c.Channel().SetPaused(true))
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 1, c.Channel().Stats().Depth)
		require.EqualValues(t, 1, tp.Stats().Depth)
		require.Empty(t, c.take(t))
		require.NoError(t, c.Channel().SetPaused(false))
		require.Equal(t, []string{"before"}, bodies(c.takeAll(t)))
		require.NoError(t, tp.SetPaused(false))
		time.Sleep(time.Microsecond) // the clock's turn
		require.Equal(t, []string{"held"}, bodies(c.takeAll(t)))
	})
}
