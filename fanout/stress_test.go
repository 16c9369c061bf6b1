package fanout

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// ledger knows of every message where it is, per life of a channel. Its lock orders what the loops report.
type ledger struct {
	t  *testing.T
	mu sync.Mutex

	books  map[*Channel]*book
	failed bool
}

type book struct {
	state    map[int]byte // by number
	done     int
	emptied  int  // messages up to this number were there before an Empty that has returned
	anything bool // Empty or deletion may come at any time: a refusal is no fault
	rang     chan struct{}
}

const (
	bookClaimed  = 1
	bookFinished = 2
)

func newLedger(t *testing.T) *ledger { return &ledger{t: t, books: map[*Channel]*book{}} }

func (l *ledger) must(err error) {
	if err != nil {
		l.fault("%v", err)
	}
}

func (l *ledger) fault(format string, args ...any) {
	l.t.Errorf(format, args...)
	l.failed = true
}

// of returns the book of a channel. Caller holds mu.
func (l *ledger) of(ch *Channel) *book {
	b := l.books[ch]
	if b == nil {
		b = &book{state: map[int]byte{}, emptied: -1, anything: strings.HasPrefix(ch.t.name, "wild"), rang: make(chan struct{}, 1)}
		l.books[ch] = b
	}
	return b
}

// mark is taken before a claim: what the claim may not return.
func (l *ledger) mark(ch *Channel) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(ch).emptied
}

func (l *ledger) claimed(ch *Channel, list []stressMsg, emptied int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.of(ch)
	for _, m := range list {
		if b.state[m.number] != 0 && !b.anything {
			l.fault("%s/%s: %d was delivered in state %d", ch.t.name, ch.name, m.number, b.state[m.number])
		}
		if m.number <= emptied {
			l.fault("%s/%s: %d was delivered after Empty had dropped everything up to %d", ch.t.name, ch.name, m.number, emptied)
		}
		if b.state[m.number] == bookFinished {
			l.fault("%s/%s: %d was delivered after FIN", ch.t.name, ch.name, m.number)
		}
		b.state[m.number] = bookClaimed
	}
}

func (l *ledger) giveBack(ch *Channel, list []stressMsg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range list {
		l.of(ch).state[m.number] = 0
	}
}

func (l *ledger) finished(ch *Channel, m stressMsg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.of(ch)
	b.state[m.number] = bookFinished
	b.done++
	select {
	case b.rang <- struct{}{}:
	default:
	}
}

func (l *ledger) refused(ch *Channel, m stressMsg, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.of(ch)
	if !b.anything {
		l.fault("%s/%s: an answer to %d was refused: %v", ch.t.name, ch.name, m.number, err)
	}
	b.state[m.number] = 0
}

func (l *ledger) emptied(ch *Channel, upTo int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(ch).emptied = upTo
}

// await waits until n messages are finished on ch. Nothing rings but the loops' own progress, so a lost wake-up ends here.
func (l *ledger) await(ch *Channel, n int) {
	deadline := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		b := l.of(ch)
		done := b.done
		l.mu.Unlock()
		if done >= n || l.t.Failed() {
			return
		}
		select {
		case <-b.rang:
		case <-deadline:
			l.t.Errorf("%s/%s: stuck at %d of %d: %+v, hungry %b, ready %d", ch.t.name, ch.name, done, n, ch.Stats(), ch.hungry.Load(), ch.ready.Load())
			return
		}
	}
}

const stressLoops = 3

// startStress runs loops with these consumers each.
func startStress(t *testing.T, b *Broker, plans []stressPlan) (l *ledger, stop func()) {
	l = newLedger(t)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for i := range stressLoops {
		loop := newStressLoop(i, b, l)
		for _, p := range plans {
			loop.post(func() { loop.now = Now(); loop.subscribe(p) })
		}
		wg.Go(func() { loop.serve(quit) })
	}
	return l, func() { close(quit); wg.Wait() }
}

func stressBody(n int) []byte {
	return fmt.Appendf(nil, "%d|%s", n, strings.Repeat("x", 20+n%400))
}

// publishAll publishes 0..n-1 with a few goroutines, one by one or in batches, some of them deferred.
func publishAll(t *testing.T, b *Broker, topic string, n int, trickle bool) {
	const goroutines = 3
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 4))
			for at := g; at < n; {
				tp, err := b.Topic([]byte(topic))
				if err != nil {
					t.Error(err)
					return
				}
				var list [][]byte
				for k := rng.IntN(8); k >= 0 && at < n; k-- {
					list = append(list, stressBody(at))
					at += goroutines
					if trickle {
						break
					}
				}
				if len(list) == 1 && !trickle && rng.IntN(4) == 0 {
					_, err = tp.PublishDeferredWait(list[0], time.Duration(rng.IntN(30))*time.Millisecond)
				} else {
					_, err = tp.PublishWait(list)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if trickle && at%60 == 0 {
					time.Sleep(50 * time.Microsecond) // let the loops run dry and park
				}
			}
		})
	}
	wg.Wait()
}

// until calls f in its own goroutine again and again until stop is called.
func until(f func(rng *rand.Rand)) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(5, 6))
		for {
			select {
			case <-quit:
				return
			default:
				f(rng)
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

// Consumers that answer everything at once: nothing but the wake-ups of publishing and unpausing keeps the loops going.
func TestStressNoWakeUpIsLost(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{SegmentMax: 64 << 10}, Options{})
	const n = 20000
	var plans []stressPlan
	for _, rdy := range []int64{1, 7, 300} {
		for _, ch := range []string{"a", "b"} {
			plans = append(plans, stressPlan{topic: "plain", channel: ch, rdy: rdy})
		}
	}
	r.pub(t, "plain")
	tp := r.LookupTopic("plain")
	for _, name := range []string{"a", "b"} {
		_, err := tp.Channel([]byte(name))
		require.NoError(t, err)
	}
	l, stop := startStress(t, r.Broker, plans)
	calm := until(func(rng *rand.Rand) {
		ch := tp.Channels()[rng.IntN(2)]
		for _, paused := range []bool{true, false} {
			l.must(ch.SetPaused(paused))
			l.must(tp.SetPaused(paused))
			time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
		}
	})
	publishAll(t, r.Broker, "plain", n, true)
	calm()
	for _, ch := range tp.Channels() {
		l.await(ch, n)
	}
	stop()
	for _, ch := range tp.Stats().Channels {
		require.Zero(t, ch.Depth+ch.InFlight+ch.Deferred, "%+v", ch)
		require.EqualValues(t, n, ch.MessageCount)
		require.Zero(t, ch.TimeoutCount)
	}
	require.NoError(t, r.Close())
}

// Everything that a client can do to a message, with restarts of connections and pauses; nothing is lost, nothing comes twice at once or after
// its FIN.
func TestStressKeepsEveryMessage(t *testing.T) {
	disk := mmapq.NewHeapDisk()
	r := openRig(t, disk, mmapq.Options{SegmentMax: 64 << 10}, Options{MsgTimeout: 60 * time.Millisecond})
	const n = 12000
	plan := stressPlan{topic: "keep", requeue: 100, later: 60, forget: 10, touch: 50, breakOff: 20}
	var plans []stressPlan
	r.pub(t, "keep")
	tp := r.LookupTopic("keep")
	for _, name := range []string{"a", "b"} {
		_, err := tp.Channel([]byte(name))
		require.NoError(t, err)
		for _, rdy := range []int64{1, 20, 500} {
			p := plan
			p.channel, p.rdy = name, rdy
			plans = append(plans, p)
		}
	}
	l, stop := startStress(t, r.Broker, plans)
	calm := until(func(rng *rand.Rand) {
		ch := tp.Channels()[rng.IntN(2)]
		l.must(ch.SetPaused(rng.IntN(2) == 0))
		l.must(tp.SetPaused(rng.IntN(2) == 0))
		_ = tp.Stats()
		time.Sleep(time.Millisecond)
	})
	publishAll(t, r.Broker, "keep", n, false)
	calm()
	l.must(tp.SetPaused(false))
	for _, ch := range tp.Channels() {
		l.must(ch.SetPaused(false))
		l.await(ch, n)
	}
	stop()
	for _, ch := range tp.Stats().Channels {
		require.Zero(t, ch.Depth+ch.InFlight+ch.Deferred, "%+v", ch)
		require.EqualValues(t, n, ch.MessageCount)
		require.NotZero(t, ch.TimeoutCount)
	}
	r = r.crash(t, mmapq.Options{SegmentMax: 64 << 10}, Options{})
	for _, ch := range r.LookupTopic("keep").Stats().Channels {
		require.Zero(t, ch.Depth+ch.Deferred, "%+v", ch)
	}
	require.NoError(t, r.Close())
}

// Empty, deletion and new creation at any time under the feet of publishers and consumers: nothing that Empty dropped comes back, nothing
// finished comes again, and at the end what is left can be drained. On the real disk a segment is unmapped as soon as it is free, so that whoever
// still reads it faults.
func TestStressEmptyAndDelete(t *testing.T) {
	t.Run("heap", func(t *testing.T) {
		stressEmptyAndDelete(t, mmapq.NewHeapDisk(), mmapq.Options{SegmentMax: 64 << 10})
	})
	t.Run("real", func(t *testing.T) {
		stressEmptyAndDelete(t, mmapq.NewRealDisk(t.TempDir()), mmapq.Options{SegmentMax: 64 << 10, PoolBytes: 1, SyncTimeout: 20 * time.Millisecond})
	})
}

func stressEmptyAndDelete(t *testing.T, disk mmapq.Disk, store mmapq.Options) {
	r := openRig(t, disk, store, Options{MsgTimeout: 40 * time.Millisecond})
	plan := stressPlan{requeue: 150, later: 100, forget: 20, touch: 50, breakOff: 30}
	var plans []stressPlan
	for _, topic := range []string{"wild1", "wild2", "wild3#ephemeral"} {
		for _, name := range []string{"a", "b#ephemeral"} {
			for _, rdy := range []int64{3, 200} {
				p := plan
				p.topic, p.channel, p.rdy = topic, name, rdy
				plans = append(plans, p)
			}
		}
	}
	l, stop := startStress(t, r.Broker, plans)
	var numbers sync.Mutex // Empty must know which messages were published before it
	next := map[string]int{}
	var stops []func()
	for _, topic := range []string{"wild1", "wild2", "wild3#ephemeral"} {
		stops = append(stops, until(func(rng *rand.Rand) {
			tp, err := r.Topic([]byte(topic))
			l.must(err)
			numbers.Lock()
			defer numbers.Unlock()
			n := next[topic] + 1
			if rng.IntN(10) == 0 {
				_, err = tp.PublishDeferredWait(stressBody(n), time.Duration(rng.IntN(10))*time.Millisecond)
			} else {
				_, err = tp.PublishWait([][]byte{stressBody(n)})
			}
			if err == nil {
				next[topic] = n
			} else {
				require.ErrorIs(t, err, ErrExiting)
			}
		}))
	}
	// At least two seconds, and on a slow machine until enough has happened: a rate is nobody's promise.
	end, patience := time.Now().Add(2*time.Second), time.Now().Add(2*time.Minute)
	for rng := rand.New(rand.NewPCG(7, 8)); time.Now().Before(end) || !l.progressed(2000, 5); {
		require.True(t, time.Now().Before(patience), "no progress")
		l.wreck(r.Broker, rng, &numbers, next)
	}
	for _, s := range stops {
		s()
	}
	drained := time.Now().Add(20 * time.Second)
	for _, tp := range r.Topics() {
		for _, ch := range tp.Channels() {
			for s := ch.Stats(); s.Depth+s.InFlight+s.Deferred > 0; s = ch.Stats() {
				if time.Now().After(drained) || t.Failed() {
					t.Fatalf("stuck: %s/%s %+v", tp.Name(), ch.Name(), s)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
	stop()
	total, channels := l.total()
	t.Logf("%d messages finished on %d channels, one after the other", total, channels)
	require.NoError(t, r.Close())
}

// total is how many messages were finished, on how many lives of channels.
func (l *ledger) total() (messages, channels int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.books {
		messages += b.done
	}
	return messages, len(l.books)
}

// progressed tells that more than so much has happened, or that there is a fault already.
func (l *ledger) progressed(messages, channels int) bool {
	m, c := l.total()
	return m > messages && c > channels || l.t.Failed()
}

// wreck does one destructive thing.
func (l *ledger) wreck(b *Broker, rng *rand.Rand, numbers *sync.Mutex, next map[string]int) {
	topics := b.Topics()
	if len(topics) == 0 {
		return
	}
	tp := topics[rng.IntN(len(topics))]
	list := tp.Channels()
	if len(list) == 0 {
		return
	}
	ch := list[rng.IntN(len(list))]
	switch k := rng.IntN(100); {
	case k < 80:
		numbers.Lock()
		upTo := next[tp.Name()]
		numbers.Unlock()
		if tp.Deleted() {
			return // its numbers went on in the next life
		}
		if err := ch.Empty(); err == nil && !tp.Deleted() {
			l.emptied(ch, upTo)
		}
	case k < 90:
		_, err := tp.DeleteChannel(ch.Name())
		l.must(err)
	default:
		_, err := b.DeleteTopic(tp.Name())
		l.must(err)
	}
	time.Sleep(time.Duration(rng.IntN(1500)) * time.Microsecond)
}
