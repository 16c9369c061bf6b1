package fanout

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// testSink turns the calls of the broker into channels that a test can await.
type testSink struct {
	wake, changed, gone chan *Channel
	settled             chan struct{}
}

func newTestSink() *testSink {
	return &testSink{wake: make(chan *Channel, 1000), changed: make(chan *Channel, 1000), gone: make(chan *Channel, 1000), settled: make(chan struct{}, 1000)}
}

func (s *testSink) WakeChannel(ch *Channel)    { s.wake <- ch }
func (s *testSink) ChannelChanged(ch *Channel) { s.changed <- ch }
func (s *testSink) ChannelGone(ch *Channel)    { s.gone <- ch }
func (s *testSink) AcksSettled()               { s.settled <- struct{}{} }

type rig struct {
	*Broker
	disk mmapq.Disk
	sink *testSink
}

func openRig(t *testing.T, disk mmapq.Disk, store mmapq.Options, opts Options) *rig {
	t.Helper()
	switch opts.MemQueueSize {
	case 0:
		opts.MemQueueSize = 10000
	case -1:
		opts.MemQueueSize = 0
	}
	opts.Warn = t.Logf
	b, err := Open(disk, store, opts)
	require.NoError(t, err)
	r := &rig{Broker: b, disk: disk, sink: newTestSink()}
	b.AttachLoop(0, r.sink)
	return r
}

// crash acts out a SIGKILL and starts over on the same disk.
func (r *rig) crash(t *testing.T, store mmapq.Options, opts Options) *rig {
	t.Helper()
	r.Abandon()
	return openRig(t, r.disk, store, opts)
}

func (r *rig) pub(t *testing.T, topic string, bodies ...string) {
	t.Helper()
	tp, err := r.Topic([]byte(topic))
	require.NoError(t, err)
	list := make([][]byte, len(bodies))
	for i, b := range bodies {
		list[i] = []byte(b)
	}
	_, err = tp.PublishWait(list)
	require.NoError(t, err)
}

func (r *rig) sub(t *testing.T, topic, channel string, rdy int64, opts ConsumerOptions) *Consumer {
	t.Helper()
	tp, err := r.Topic([]byte(topic))
	require.NoError(t, err)
	ch, err := tp.Channel([]byte(channel))
	require.NoError(t, err)
	c, err := ch.AddConsumer(0, opts)
	require.NoError(t, err)
	c.SetReady(rdy)
	return c
}

// attemptsOf reads the attempts of a frame.
func attemptsOf(frame []byte) uint16 { return binary.BigEndian.Uint16(frame[16:]) }

type delivery struct {
	id       string
	attempts uint16
	body     string
}

// take claims once and parses the frames.
func (c *Consumer) take(t *testing.T) []delivery {
	t.Helper()
	var s Scratch
	var run Run
	if !c.Claim(Now(), &s, &run) {
		return nil
	}
	p := append(append([]byte(nil), run.Head...), run.Bytes...)
	run.Release()
	var out []delivery
	for len(p) > 0 {
		n := int(binary.BigEndian.Uint32(p)) + 4
		f := p[:n]
		p = p[n:]
		out = append(out, delivery{string(f[18:34]), attemptsOf(f), string(f[34:])})
	}
	return out
}

func (c *Consumer) takeAll(t *testing.T) []delivery {
	t.Helper()
	var all []delivery
	for {
		d := c.take(t)
		if d == nil {
			return all
		}
		all = append(all, d...)
	}
}

func bodies(ds []delivery) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.body
	}
	return out
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint("m", i))
	}
	return out
}

func TestFirstChannelGetsBacklogSecondStartsAtEnd(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	r.pub(t, "t", numbers(0, 10)...)
	a := r.sub(t, "t", "a", 100, ConsumerOptions{})
	b := r.sub(t, "t", "b", 100, ConsumerOptions{})
	r.pub(t, "t", "late")
	require.Equal(t, append(numbers(0, 10), "late"), bodies(a.takeAll(t)))
	require.Equal(t, []string{"late"}, bodies(b.takeAll(t)))
}

func TestCrashKeepsEverything(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 5, ConsumerOptions{})
	r.pub(t, "t", numbers(0, 12)...)
	ds := c.takeAll(t)
	require.Len(t, ds, 5)
	for _, i := range []int{0, 2, 4} {
		require.NoError(t, c.Fin([]byte(ds[i].id), Now()))
	}
	require.NoError(t, c.Req([]byte(ds[1].id), 0, Now()))
	c.EndBatch()
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	c = r.sub(t, "t", "c", 100, ConsumerOptions{})
	got := c.takeAll(t)
	require.Equal(t, append([]string{"m1", "m3"}, numbers(5, 12)...), bodies(got))
	require.EqualValues(t, 2, got[0].attempts)
	require.EqualValues(t, 2, got[1].attempts)
	require.EqualValues(t, 1, got[2].attempts)
}

func TestRequeueGoesToTail(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 1, ConsumerOptions{})
	r.pub(t, "t", "a", "b", "c")
	d := c.take(t)
	require.Equal(t, []string{"a"}, bodies(d))
	require.NoError(t, c.Req([]byte(d[0].id), 0, Now()))
	c.EndBatch()
	c.SetReady(10)
	got := c.takeAll(t)
	require.Equal(t, []string{"b", "c", "a"}, bodies(got))
	require.EqualValues(t, 2, got[2].attempts)
	require.ErrorIs(t, c.Fin([]byte("0123456789abcdef"), Now()), ErrNotInFlight)
}

func TestOwnership(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	a := r.sub(t, "t", "c", 1, ConsumerOptions{})
	b := r.sub(t, "t", "c", 1, ConsumerOptions{})
	r.pub(t, "t", "a", "b")
	da, db := a.take(t), b.take(t)
	require.ErrorIs(t, b.Fin([]byte(da[0].id), Now()), ErrNotOwner)
	require.NoError(t, a.Fin([]byte(da[0].id), Now()))
	require.ErrorIs(t, a.Fin([]byte(da[0].id), Now()), ErrNotInFlight)
	require.NoError(t, b.Req([]byte(db[0].id), time.Hour, Now()))
	require.ErrorIs(t, b.Fin([]byte(db[0].id), Now()), ErrNotInFlight)
	require.ErrorIs(t, a.Fin([]byte(db[0].id), Now()), ErrNotInFlight)
}

func TestTimeoutAndTouch(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MaxMsgTimeout: 3 * time.Minute})
	defer r.Close()
	c := r.sub(t, "t", "c", 10, ConsumerOptions{MsgTimeout: time.Minute})
	r.pub(t, "t", "a", "b")
	var s Scratch
	var run Run
	now := Now()
	require.True(t, c.Claim(now, &s, &run))
	id := append([]byte(nil), run.Bytes[18:34]...)
	run.Release()
	require.NoError(t, c.Touch(id, now+int64(50*time.Second)))
	require.Equal(t, now+int64(time.Minute), c.NextDeadline())
	require.Equal(t, 1, c.Expire(now+int64(time.Minute)))
	require.Equal(t, now+int64(110*time.Second), c.NextDeadline())
	require.NoError(t, c.Touch(id, now+int64(170*time.Second)))
	require.Equal(t, now+int64(180*time.Second), c.NextDeadline(), "bounded by the maximum since delivery")
	require.Equal(t, 1, c.Expire(now+int64(180*time.Second)))
	require.Zero(t, c.NextDeadline())
	require.EqualValues(t, 2, c.Channel().Stats().TimeoutCount)
	got := c.takeAll(t)
	require.Equal(t, []string{"b", "a"}, bodies(got))
}

func TestDeferred(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	tp := r.LookupTopic("t")
	began := Now()
	_, err := tp.PublishDeferredWait([]byte("later"), 200*time.Millisecond)
	require.NoError(t, err)
	_, err = tp.PublishDeferredWait([]byte("much later"), time.Hour)
	require.NoError(t, err)
	require.EqualValues(t, 2, c.Channel().Stats().Deferred)
	require.False(t, c.Channel().Park(0))
	<-r.sink.wake
	require.GreaterOrEqual(t, Now()-began, int64(200*time.Millisecond))
	d := c.takeAll(t)
	require.Equal(t, []string{"later"}, bodies(d))
	require.EqualValues(t, 1, d[0].attempts)
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	c = r.sub(t, "t", "c", 10, ConsumerOptions{})
	d = c.takeAll(t)
	require.Equal(t, []string{"later"}, bodies(d))
	require.EqualValues(t, 2, d[0].attempts)
	require.EqualValues(t, 1, c.Channel().Stats().Deferred)
}

func TestManySegmentsAreFreedAndPositionsGoOn(t *testing.T) {
	disk := mmapq.NewHeapDisk()
	r := openRig(t, disk, mmapq.Options{SegmentMax: 64 << 10}, Options{})
	c := r.sub(t, "t", "c", 2500, ConsumerOptions{})
	seen := 0
	for round := range 50 {
		r.pub(t, "t", numbers(round*1000, round*1000+1000)...)
		for _, d := range c.takeAll(t) {
			require.Equal(t, fmt.Sprint("m", seen), d.body)
			seen++
			require.NoError(t, c.Fin([]byte(d.id), Now()))
		}
		c.EndBatch()
	}
	require.Equal(t, 50000, seen)
	require.Eventually(t, func() bool { return len(segmentFiles(t, disk)) < 10 }, 20*time.Second, 5*time.Millisecond, "what is finished is freed")
	st := c.Channel().Stats()
	require.Zero(t, st.Depth)
	require.EqualValues(t, 50000, st.MessageCount)
	r = r.crash(t, mmapq.Options{SegmentMax: 64 << 10}, Options{})
	defer r.Close()
	c = r.sub(t, "t", "c", 2500, ConsumerOptions{})
	require.Empty(t, c.takeAll(t))
	r.pub(t, "t", "after")
	require.Equal(t, []string{"after"}, bodies(c.takeAll(t)))
}

func TestPauseHoldsAcrossCrash(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 100, ConsumerOptions{})
	r.pub(t, "t", "before")
	require.NoError(t, r.LookupTopic("t").SetPaused(true))
	r.pub(t, "t", "held1", "held2")
	require.Equal(t, []string{"before"}, bodies(c.takeAll(t)))
	require.EqualValues(t, 2, r.LookupTopic("t").Stats().Depth)
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	c = r.sub(t, "t", "c", 100, ConsumerOptions{})
	require.Equal(t, []string{"before"}, bodies(c.takeAll(t)))
	require.True(t, r.LookupTopic("t").Paused())
	r.pub(t, "t", "held3")
	require.NoError(t, r.LookupTopic("t").Empty())
	r.pub(t, "t", "held4")
	require.NoError(t, r.LookupTopic("t").SetPaused(false))
	require.Equal(t, []string{"held4"}, bodies(c.takeAll(t)))
	require.Zero(t, r.LookupTopic("t").Stats().Depth)
}

func TestEmptyAndDelete(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 2, ConsumerOptions{})
	r.pub(t, "t", numbers(0, 5)...)
	d := c.takeAll(t)
	require.NoError(t, c.Channel().Empty())
	require.Same(t, c.Channel(), <-r.sink.changed)
	require.ErrorIs(t, c.Fin([]byte(d[0].id), Now()), ErrNotInFlight)
	require.Equal(t, 2, c.Credit())
	require.Empty(t, c.takeAll(t))
	r.pub(t, "t", "x")
	require.Equal(t, []string{"x"}, bodies(c.takeAll(t)))
	ok, err := r.DeleteTopic("t")
	require.NoError(t, err)
	require.True(t, ok)
	require.Same(t, c.Channel(), <-r.sink.gone)
	c.Close(Now())
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	require.Empty(t, r.Topics())
	c = r.sub(t, "t", "c", 2, ConsumerOptions{})
	require.Empty(t, c.takeAll(t))
}

func TestEphemeral(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{MemQueueSize: 10})
	defer r.Close()
	c := r.sub(t, "t#ephemeral", "c#ephemeral", 5, ConsumerOptions{})
	r.pub(t, "t#ephemeral", numbers(0, 25)...)
	require.Equal(t, numbers(0, 5), bodies(c.takeAll(t)), "5 go to the waiting consumer, 10 stay, the rest is dropped")
	c.SetReady(100)
	require.Equal(t, numbers(5, 15), bodies(c.takeAll(t)))
	r.pub(t, "t#ephemeral", "more")
	require.Equal(t, []string{"more"}, bodies(c.takeAll(t)))
	c.Close(Now())
	require.Nil(t, r.LookupTopic("t#ephemeral"))
}

func TestClosedConnectionGivesBack(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	a := r.sub(t, "t", "c", 3, ConsumerOptions{})
	r.pub(t, "t", "a", "b", "c")
	var s Scratch
	var run Run
	require.True(t, a.Claim(Now(), &s, &run))
	require.Equal(t, 3, run.N)
	a.Unwritten(&run, run.frameLen(0)+1) // the first whole, one byte of the second
	run.Release()
	a.Close(Now())
	b := r.sub(t, "t", "c", 10, ConsumerOptions{})
	got := b.takeAll(t)
	byBody := map[string]uint16{}
	for _, d := range got {
		byBody[d.body] = d.attempts
	}
	require.Equal(t, map[string]uint16{"a": 2, "b": 2, "c": 1}, byBody)
	b.Close(Now())
	require.EqualValues(t, 2, r.LookupTopic("t").LookupChannel("c").Stats().Deferred, "a second loss waits")
}

func TestSyncAlwaysSettles(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{Sync: mmapq.SyncAlways}, Options{})
	defer r.Close()
	tp, err := r.Topic([]byte("t"))
	require.NoError(t, err)
	ack, err := tp.PublishWait([][]byte{[]byte("x")})
	require.NoError(t, err)
	require.NoError(t, ack.Wait())
	require.True(t, ack.Settled())
	ack, _, err = tp.Publish([][]byte{[]byte("y")})
	require.NoError(t, err)
	ack.Subscribe(0)
	for !ack.Settled() {
		<-r.sink.settled
	}
	require.NoError(t, ack.Err())
}
