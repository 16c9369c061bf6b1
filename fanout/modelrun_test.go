package fanout

import (
	"flag"
	"fmt"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// do carries out one step on the broker and on the model.
func (s *sim) do(o op) error {
	switch o.kind {
	case opPub:
		return s.publish(o)
	case opDpub:
		return s.publishDeferred(o)
	case opSub:
		return s.subscribe(o)
	case opAdvance:
		time.Sleep([]time.Duration{time.Millisecond, 30 * time.Millisecond, 500 * time.Millisecond, 4 * time.Second}[o.a%4])
		return nil
	case opKill, opStop:
		return s.restart(o.kind == opStop)
	case opPauseTopic, opEmptyTopic, opDeleteTopic, opCreateChannel:
		return s.doTopic(o)
	case opPauseChannel, opEmptyChannel, opDeleteChannel, opPark:
		return s.doChannel(o)
	}
	if c := s.consumer(o.a); c != nil {
		return s.doConsumer(o, c)
	}
	return nil
}

func (s *sim) doConsumer(o op, c *simConsumer) error {
	defer func() {
		if !c.closed {
			c.EndBatch()
		}
	}()
	var run Run
	switch o.kind {
	case opClose:
		s.closeConsumer(c)
	case opBreak:
		if err := s.claim(c, &run); err != nil {
			return err
		}
		s.breakOff(o, c, &run)
	case opRdy:
		c.ref.rdy = int([]uint32{0, 1, 3, 20, 200, 2500}[o.b%6])
		if c.ref.closing {
			c.ref.rdy = 0
		}
		c.SetReady(int64(c.ref.rdy))
	case opStartClose:
		c.StartClose()
		c.ref.closing, c.ref.rdy = true, 0
	case opClaim:
		err := s.claim(c, &run)
		run.Release()
		return err
	case opFin, opReq, opReqLater, opTouch:
		return s.answer(o, c, s.someID(c, o))
	case opFinAll:
		for _, h := range slices.Clone(c.ref.held) {
			if (uint32(h.m.number)+o.b)%16 != 0 { // some stay behind
				if err := s.answer(o, c, h.m.id); err != nil {
					return err
				}
			}
		}
	case opExpire:
		now := Now()
		if got, want := c.Expire(now), c.ref.expire(now); got != want {
			return fmt.Errorf("%d messages expired, want %d", got, want)
		}
	}
	return nil
}

// breakOff acts out a connection that is lost while run is being written.
func (s *sim) breakOff(o op, c *simConsumer, run *Run) {
	sent := 0
	if total := len(run.Head) + len(run.Bytes); total > 0 {
		sent = int(o.b) % (total + 1)
	}
	at := 0
	for _, h := range slices.Clone(c.ref.held[len(c.ref.held)-run.N:]) {
		if at >= sent {
			c.ref.drop(h)
			c.ref.ch.putBack(h.m, 0, 0, true)
		} else {
			c.ref.ch.highest[h.m] = max(c.ref.ch.highest[h.m], c.ref.ch.stored[h.m], 1)
		}
		at += 34 + h.m.size
	}
	c.Unwritten(run, sent)
	run.Release()
	s.closeConsumer(c)
}

func (s *sim) doTopic(o op) error {
	if o.kind == opCreateChannel {
		rt, t, err := s.topic(o.a)
		if err != nil {
			return err
		}
		name := simChannels[int(o.b)%len(simChannels)]
		rt.channel(name)
		_, err = t.Channel([]byte(name))
		return err
	}
	rt, t := s.existing(o.a)
	if rt == nil {
		return nil
	}
	switch o.kind {
	case opPauseTopic:
		rt.paused = o.b%2 == 0
		rt.forward()
		return t.SetPaused(rt.paused)
	case opEmptyTopic:
		rt.held = nil
		return t.Empty()
	}
	if o.b%2 == 0 {
		return nil // half as often
	}
	s.topics[int(o.a)%simTopics] = nil
	rt.channels = map[string]*refChannel{}
	ok, err := s.broker.DeleteTopic(rt.name)
	if err == nil && !ok {
		err = fmt.Errorf("topic %s was not there to be deleted", rt.name)
	}
	return err
}

func (s *sim) doChannel(o op) error {
	ref, ch := s.channel(o)
	if ref == nil {
		return nil
	}
	switch o.kind {
	case opPauseChannel:
		ref.paused = o.c%2 == 0
		return ch.SetPaused(ref.paused)
	case opEmptyChannel:
		ref.empty()
		return ch.Empty()
	case opPark:
		if s.parked[ch] {
			return nil
		}
		s.mu.Lock()
		delete(s.woken, ch)
		s.mu.Unlock()
		if !ch.Park(0) {
			s.parked[ch] = true
			if ref.claimable() {
				return fmt.Errorf("channel %s: parked with something claimable", ref.name)
			}
		}
		return nil
	}
	delete(ref.t.channels, ref.name)
	ok, err := ref.t.real(s).DeleteChannel(ref.name)
	if err == nil && !ok {
		err = fmt.Errorf("channel %s was not there to be deleted", ref.name)
	}
	return err
}

func (t *refTopic) real(s *sim) *Topic { return s.broker.LookupTopic(t.name) }

// restart ends the broker, as a kill would or in order, and opens the directory again.
func (s *sim) restart(clean bool) error {
	if clean {
		if err := s.broker.Close(); err != nil {
			return err
		}
	} else {
		s.broker.Abandon()
	}
	s.store.Node = (s.store.Node*31 + 7) % (mmapq.NodeMax + 1) // the host got another name
	if err := s.open(); err != nil {
		return err
	}
	now := Now()
	for _, rt := range s.topics {
		if rt == nil {
			continue
		}
		rt.count, rt.bytes = 0, 0
		delete(rt.channels, "c#ephemeral")
		for _, ch := range rt.channels {
			ch.restart(now)
		}
	}
	return nil
}

// compare holds every figure of the broker against the model.
func (s *sim) compare() error {
	for i, rt := range s.topics {
		t := s.broker.LookupTopic(s.topicName(i))
		if rt == nil || t == nil {
			if rt != nil || t != nil {
				return fmt.Errorf("topic %s exists: %t, want %t", s.topicName(i), t != nil, rt != nil)
			}
			continue
		}
		st := t.Stats()
		got := fmt.Sprint(st.Depth, st.MessageCount, st.MessageBytes, st.Paused, len(st.Channels))
		if want := fmt.Sprint(len(rt.held), rt.count, rt.bytes, rt.paused, len(rt.channels)); got != want {
			return fmt.Errorf("topic %s: depth, messages, bytes, paused, channels are %s, want %s", rt.name, got, want)
		}
		for _, cs := range st.Channels {
			ref := rt.channels[cs.Name]
			if ref == nil {
				return fmt.Errorf("topic %s has an unexpected channel %s", rt.name, cs.Name)
			}
			if err := s.compareChannel(ref, cs, t.LookupChannel(cs.Name)); err != nil {
				return fmt.Errorf("%s/%s: %w", rt.name, cs.Name, err)
			}
		}
	}
	for _, c := range s.consumers {
		if got, want := c.NextDeadline(), c.ref.nextDeadline(); got != want || c.InFlight() != len(c.ref.held) {
			return fmt.Errorf("consumer holds %d until %d, want %d until %d", c.InFlight(), got, len(c.ref.held), want)
		}
	}
	if len(s.warned) > 0 {
		return fmt.Errorf("warned: %q", s.warned)
	}
	return nil
}

func (s *sim) compareChannel(ref *refChannel, cs ChannelStats, ch *Channel) error {
	got := fmt.Sprint(cs.Depth, cs.InFlight, cs.Deferred, cs.MessageCount, cs.RequeueCount, cs.TimeoutCount, cs.ClientCount, cs.Paused)
	want := fmt.Sprint(len(ref.queue)+len(ref.side), ref.inFlight(), len(ref.deferred), ref.arrived-ref.counted+ref.pulled, ref.requeues, ref.timeouts,
		len(ref.consumers), ref.paused)
	if got != want {
		return fmt.Errorf("depth, in flight, deferred, messages, requeues, timeouts, clients, paused are %s, want %s", got, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked[ch] && ref.claimable() && !s.woken[ch] {
		return fmt.Errorf("something became claimable and nobody was woken")
	}
	if s.woken[ch] {
		s.parked[ch] = false
	}
	return nil
}

// drain opens everything, waits for everything that is deferred, and takes and finishes all messages.
func (s *sim) drain() error {
	time.Sleep(2 * time.Hour)
	s.settle()
	for i, rt := range s.topics {
		if rt == nil {
			continue
		}
		rt.paused = false
		rt.forward()
		t := s.broker.LookupTopic(s.topicName(i))
		if err := t.SetPaused(false); err != nil {
			return err
		}
		for name, ref := range rt.channels {
			ref.paused = false
			if err := t.LookupChannel(name).SetPaused(false); err != nil {
				return err
			}
		}
	}
	s.settle()
	for _, c := range s.consumers { // overdue by now
		if got, want := c.Expire(Now()), c.ref.expire(Now()); got != want {
			return fmt.Errorf("%d messages expired at the end, want %d", got, want)
		}
	}
	for i, rt := range s.topics {
		for j, name := range simChannels {
			if rt == nil || rt.channels[name] == nil {
				continue
			}
			s.consumers = s.consumers[:min(len(s.consumers), 7)]
			if err := s.subscribe(op{a: uint32(i), b: uint32(j), c: 29}); err != nil {
				return err
			}
			if err := s.drainWith(s.consumers[len(s.consumers)-1]); err != nil {
				return err
			}
		}
	}
	s.settle()
	return s.compare()
}

func (s *sim) drainWith(c *simConsumer) error {
	c.ref.rdy = 100
	c.SetReady(100)
	for c.ref.ch.claimable() {
		var run Run
		if err := s.claim(c, &run); err != nil {
			return err
		}
		run.Release()
		for _, h := range slices.Clone(c.ref.held) {
			if err := s.answer(op{kind: opFin}, c, h.m.id); err != nil {
				return err
			}
		}
		c.EndBatch()
	}
	var run Run
	return s.claim(c, &run)
}

// play runs a list from an empty directory in a bubble. at is the step that failed.
func play(t *testing.T, disk mmapq.Disk, store mmapq.Options, ops []op) (at int, err error) {
	synctest.Test(t, func(*testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour) // a bubble begins in 2000, positions in 2020
		s := newSim(disk, store)
		if err = s.open(); err != nil {
			return
		}
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
			s.broker.Abandon()
		}()
		for at = range ops {
			if err = s.do(ops[at]); err != nil {
				return
			}
			s.settle()
			if err = s.compare(); err != nil {
				return
			}
		}
		at = len(ops)
		if err = s.drain(); err == nil {
			time.Sleep(3 * time.Second) // the reclaimer comes round
			err = s.leftover()
		}
	})
	return at, err
}

// leftover checks that an empty broker gave everything back: per log one open and one prepared segment at most.
func (s *sim) leftover() error {
	names, err := s.disk.List()
	if err != nil {
		return err
	}
	segments := 0
	for _, n := range names {
		if len(n) > 4 && n[len(n)-4:] == ".seg" {
			segments++
		}
	}
	for _, rt := range s.topics {
		if rt != nil && len(rt.held) > 0 {
			return nil
		}
	}
	if s.store.PoolBytes == 1 && segments > 4*simTopics {
		return fmt.Errorf("%d segments are left when all is finished: %v", segments, names)
	}
	return nil
}

// shrink takes steps out of a failing list for as long as it still fails.
func shrink(ops []op, fails func([]op) bool) []op {
	for size := len(ops) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(ops); {
			if less := slices.Concat(ops[:from], ops[from+size:]); fails(less) {
				ops = less
			} else {
				from += size
			}
		}
	}
	return ops
}

// runModel plays one seed; a failure prints the shortest failing prefix and what is left of it after shrinking.
func runModel(t *testing.T, seed uint64, steps int, store mmapq.Options, disk func() mmapq.Disk) {
	ops := randomOps(seed, steps)
	at, err := play(t, disk(), store, ops)
	if err == nil {
		return
	}
	prefix := ops[:min(at+1, len(ops))]
	least := shrink(prefix, func(list []op) bool {
		_, err := play(t, disk(), store, list)
		return err != nil
	})
	_, errLeast := play(t, disk(), store, least)
	t.Fatalf("seed %d fails at step %d of %d: %v\nprefix: %v\nshrunk to %d steps: %v\nwhich fail with: %v", seed, at, steps, err, prefix, len(least), least, errLeast)
}

var (
	modelFirst = flag.Uint64("model.first", 0, "first seed of TestModel")
	modelSeeds = flag.Uint64("model.seeds", 60, "number of seeds of TestModel")
)

func TestModel(t *testing.T) {
	for seed := *modelFirst; seed < *modelFirst+*modelSeeds; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			store := mmapq.Options{SegmentMax: 64 << 10, Node: uint16(seed)}
			if seed%2 == 0 {
				store.PoolBytes = 1 // nothing is recycled
			}
			if seed%3 == 0 {
				store.Sync = mmapq.SyncAlways
			}
			runModel(t, seed, 400, store, func() mmapq.Disk { return mmapq.NewHeapDisk() })
		})
	}
}

func TestModelOnRealDisk(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			runModel(t, 1000+seed, 200, mmapq.Options{SegmentMax: 64 << 10}, func() mmapq.Disk { return mmapq.NewRealDisk(t.TempDir()) })
		})
	}
}

func TestShrinkFindsTheLeast(t *testing.T) {
	ops := randomOps(1, 200)
	ops[50].kind, ops[120].kind = opStop, opKill
	least := shrink(ops, func(list []op) bool {
		stop := slices.IndexFunc(list, func(o op) bool { return o.kind == opStop })
		return stop >= 0 && slices.ContainsFunc(list[stop:], func(o op) bool { return o.kind == opKill })
	})
	require.Len(t, least, 2)
}
