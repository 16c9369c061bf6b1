package fanout

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// A FIN makes nothing claimable, so it wakes nobody; what is put back does.
func TestOnlyWhatComesBackWakes(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	r.pub(t, "t", "a", "b", "c", "d")
	d := c.takeAll(t)
	require.False(t, c.Channel().Park(0))
	require.NoError(t, c.Fin([]byte(d[0].id), Now()))
	c.EndBatch()
	require.Empty(t, r.sink.wake)
	require.NoError(t, c.Req([]byte(d[1].id), 0, Now()))
	require.Empty(t, r.sink.wake, "once a batch")
	c.EndBatch()
	require.Len(t, r.sink.wake, 1)
	<-r.sink.wake
	require.True(t, c.Channel().Park(0), "what came back is there")
	c.take(t)
	require.False(t, c.Channel().Park(0))
	require.Equal(t, 3, c.Expire(Now()+int64(time.Hour)))
	require.Len(t, r.sink.wake, 1)
}

// One message at a time, one consumer on one loop, and the next message only when that one is finished, at any point of the loop's way to sleep:
// nothing makes good a wake-up that is lost between "nothing there" and "wake me".
func TestParkLosesNoWakeUp(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 1, ConsumerOptions{})
	var finished atomic.Int64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		f := feed{c: c}
		for {
			switch n := f.claim(); {
			case n > 0:
				if err := f.finish(n); err != nil {
					t.Error(err)
				}
				finished.Add(int64(n))
			case !c.Channel().Park(0):
				select {
				case <-quit:
					return
				case <-r.sink.wake:
				}
			}
		}
	})
	rng := rand.New(rand.NewPCG(9, 9))
	body := [][]byte{[]byte("x")}
	for n := int64(1); n <= 60000 && !t.Failed(); n++ {
		_, err := c.Channel().Topic().PublishWait(body)
		require.NoError(t, err)
		for spins := 0; finished.Load() < n; spins++ {
			if spins%64 == 63 {
				runtime.Gosched()
			}
			if spins == 1<<27 {
				t.Errorf("nobody came for message %d", n)
				break
			}
		}
		for range rng.IntN(300) {
			_ = finished.Load()
		}
	}
	close(quit)
	wg.Wait()
}

// Park looks whether there is something only after it has asked to be woken, else what comes in between wakes nobody.
func TestParkAsksBeforeItLooks(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	ch := r.sub(t, "t", "c", 1, ConsumerOptions{}).Channel()
	ch.mu.Lock() // it cannot look
	parked := make(chan bool)
	go func() { parked <- ch.Park(0) }()
	for deadline := time.Now().Add(10 * time.Second); ch.hungry.Load() == 0 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	asked := ch.hungry.Load()
	ch.mu.Unlock()
	require.False(t, <-parked)
	require.EqualValues(t, 1, asked)
}

// When the topic is paused nothing beyond its hold is visible, and no cursor is beyond it: else Empty of the topic would drop what is in flight.
func TestPauseHoldsBehindEveryCursor(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 1<<30, ConsumerOptions{})
	tp, ch := c.Channel().Topic(), c.Channel()
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for k := 0; ; k++ {
			select {
			case <-quit:
				return
			default:
				if _, err := tp.PublishWait([][]byte{[]byte("x")}); err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Go(func() {
		var s Scratch
		var run Run
		for {
			select {
			case <-quit:
				return
			default:
				if c.Claim(1, &s, &run) {
					run.Release()
					c.lease.clear() // only the cursor is looked at
				}
			}
		}
	})
	for range 300 {
		require.NoError(t, tp.SetPaused(true))
		for s := range ch.cursor {
			ch.mu.Lock()
			cursor := ch.cursor[s]
			ch.mu.Unlock()
			require.LessOrEqual(t, cursor, tp.visible(mmapq.Stream(s)))
		}
		require.NoError(t, tp.SetPaused(false))
	}
	close(quit)
	wg.Wait()
}

// The same without luck: a claim has gone beyond what the hold read as the end.
func TestHoldIsMovedBehindACursor(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	r.pub(t, "t", "a")
	tp, ch := c.Channel().Topic(), c.Channel()
	ch.mu.Lock()
	ch.cursor[streamMain] = tp.logs[streamMain].Committed() + 3
	ch.mu.Unlock()
	require.NoError(t, tp.SetPaused(true))
	require.Equal(t, ch.cursor[streamMain], tp.visible(streamMain))
}

// Empty comes between a command and the channel's lock: what the command would put back is gone, whatever the command.
func TestEmptyOvertakesWhatIsPutBack(t *testing.T) {
	for name, command := range map[string]func(c *Consumer, run *Run, id []byte) error{
		"requeue":       func(c *Consumer, _ *Run, id []byte) error { return c.Req(id, 0, Now()) },
		"requeue later": func(c *Consumer, _ *Run, id []byte) error { return c.Req(id, time.Hour, Now()) },
		"timeout":       func(c *Consumer, _ *Run, _ []byte) error { c.Expire(1 << 62); return nil },
		"unwritten":     func(c *Consumer, run *Run, _ []byte) error { c.Unwritten(run, 0); return nil },
		"close":         func(c *Consumer, _ *Run, _ []byte) error { c.Close(Now()); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
			defer r.Close()
			c := r.sub(t, "t", "c", 10, ConsumerOptions{})
			r.pub(t, "t", "a", "b")
			ch := c.Channel()
			var s Scratch
			var run Run
			require.True(t, c.Claim(Now(), &s, &run))
			id := slices.Clone(run.Bytes[18:34])
			ch.mu.Lock()
			done := make(chan error, 1)
			go func() { done <- command(c, &run, id) }()
			for deadline := time.Now().Add(20 * time.Millisecond); time.Now().Before(deadline); {
				runtime.Gosched() // until the command waits for the lock; there is no event to tell
			}
			ch.drop()
			ch.mu.Unlock()
			require.NoError(t, <-done)
			run.Release()
			stats := ch.Stats()
			require.Zero(t, stats.Depth+stats.InFlight+stats.Deferred, "%+v", stats)
		})
	}
}

// A pause that has been answered delivers nothing more.
func TestPauseIsFinal(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 1<<30, ConsumerOptions{})
	ch := c.Channel()
	r.pub(t, "t", numbers(0, 20)...)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var s Scratch
		var run Run
		for {
			select {
			case <-quit:
				return
			default:
				if c.Claim(1, &s, &run) {
					run.Release()
					c.Expire(1 << 62)
				}
			}
		}
	})
	depth := func() int64 {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		return ch.waiting(ch.t.visible(streamMain)) + int64(ch.side.len())
	}
	for range 400 {
		require.NoError(t, ch.SetPaused(true))
		first := depth()
		for range 10 {
			require.GreaterOrEqual(t, depth(), first, "only what was in flight comes back")
		}
		require.NoError(t, ch.SetPaused(false))
	}
	close(quit)
	wg.Wait()
}

// The side queue does not wait for positions that a pause of the topic has put out of sight.
func TestSideQueueUnderAHeldTopic(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 1, ConsumerOptions{})
	r.pub(t, "t", "a")
	d := c.take(t)
	ch := c.Channel()
	ch.mu.Lock()
	ch.side.push(makeKey(streamMain, ch.cursor[streamMain]-1), ch.cursor[streamMain]+5) // put back while more was visible than is now
	ch.mu.Unlock()
	require.NoError(t, c.Fin([]byte(d[0].id), Now()))
	c.EndBatch()
	require.True(t, ch.Park(0))
	require.Empty(t, c.take(t), "it was finished meanwhile")
	require.False(t, ch.Park(0))
}

// Sampling discards for the channel, at first delivery from the cursor, at that of a deferred message and at a redelivery.
func TestSampleRate(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	const n = 20000
	c := r.sub(t, "t", "c", 1<<20, ConsumerOptions{SampleRate: 29})
	r.pub(t, "t", numbers(0, n)...)
	d := c.takeAll(t)
	require.InDelta(t, 0.30*n, len(d), 0.02*n)
	require.Equal(t, len(d), c.InFlight())
	require.Zero(t, c.Channel().Stats().Depth)
	c.Expire(1 << 62)
	again := c.takeAll(t)
	require.InDelta(t, 0.30*float64(len(d)), len(again), 0.02*n)
	for _, x := range again {
		require.EqualValues(t, 2, x.attempts)
		require.NoError(t, c.Fin([]byte(x.id), Now()))
	}
	c.EndBatch()
	require.Zero(t, c.InFlight())
	ch := c.Channel()
	r.recl.kick(ch.t)
	require.Eventually(t, func() bool {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		return ch.floor[streamMain] == ch.cursor[streamMain]
	}, 5*time.Second, 5*time.Millisecond, "what was discarded holds nothing up")
}

// A channel is deleted under its consumers: the rest of their life is quiet, and a channel of the same name starts empty.
func TestDeletedChannelUnderItsConsumers(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 5, ConsumerOptions{})
	r.pub(t, "t", numbers(0, 10)...)
	d := c.takeAll(t)
	ok, err := r.LookupTopic("t").DeleteChannel("c")
	require.NoError(t, err)
	require.True(t, ok)
	require.Same(t, c.Channel(), <-r.sink.gone)
	next := r.sub(t, "t", "c", 5, ConsumerOptions{})
	require.NotSame(t, c.Channel(), next.Channel())
	c.SetReady(10)
	require.Empty(t, c.take(t))
	require.NoError(t, c.Fin([]byte(d[0].id), Now()))
	require.NoError(t, c.Req([]byte(d[1].id), 0, Now()))
	require.NoError(t, c.Req([]byte(d[2].id), time.Hour, Now()))
	c.EndBatch()
	require.ErrorIs(t, c.Channel().SetPaused(true), ErrExiting)
	require.ErrorIs(t, c.Channel().Empty(), ErrExiting)
	_, err = c.Channel().AddConsumer(0, ConsumerOptions{})
	require.ErrorIs(t, err, ErrExiting)
	c.Close(Now())
	require.Empty(t, next.takeAll(t))
	r.pub(t, "t", "x")
	require.Equal(t, []string{"x"}, bodies(next.takeAll(t)))
}

func TestConsumerLimit(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MaxChannelConsumers: 2, MaxTopics: 1, MaxChannelsPerTopic: 1})
	defer r.Close()
	a := r.sub(t, "t", "c", 1, ConsumerOptions{})
	b := r.sub(t, "t", "c", 1, ConsumerOptions{})
	b.StartClose()
	_, err := a.Channel().AddConsumer(0, ConsumerOptions{})
	require.EqualError(t, err, "consumers for t:c exceeds limit of 2", "one that is closing counts")
	b.Close(Now())
	_, err = a.Channel().AddConsumer(0, ConsumerOptions{})
	require.NoError(t, err)
	_, err = r.Topic([]byte("u"))
	require.ErrorIs(t, err, ErrTooManyTopics)
	_, err = a.Channel().Topic().Channel([]byte("d"))
	require.ErrorIs(t, err, ErrTooManyChannels)
}
