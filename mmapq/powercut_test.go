package mmapq

import (
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// play runs a script on a crash disk in one goroutine; only the preparer works beside it. What it was promised is checked on what a power cut
// would leave.
type play struct {
	t       *testing.T
	d       *crashDisk
	st      *Store
	named   map[string]*act
	gone    map[uint64]bool
	promise atomic.Pointer[promise]

	mu   sync.Mutex
	all  map[string]map[Pos]string // by topic: every message ever stored at a position
	cuts int
}

type act struct {
	meta  TopicMeta
	logs  [2]*Log
	safe  map[Pos]string // synced and needed
	open  map[Pos]string // stored, not synced
	chans map[string]*chanAct
	there bool // a round covered its creation

	dropped, gone Pos // Empty dropped what is below dropped; a round covered that up to gone
}

type chanAct struct {
	c      ChannelMeta
	slot   *ChannelSlot
	states [2]*State
	floor  Pos // what the channel finished up to
	there  bool
}

// promise is what has to be there after a power cut. Never changed, only replaced.
type promise struct {
	topics   map[string]uint64 // ids of those that a round covered
	channels []uint64          // likewise
	gone     map[uint64]bool   // topics that were deleted
	safe     map[string]map[Pos]string
	floors   map[uint64]Pos // of channels, by id: never ahead of this
	dropped  map[uint64]Pos // of topics, by id: nothing below comes back
}

// promised takes note of what is promised from now on.
func (p *play) promised() {
	n := &promise{topics: map[string]uint64{}, gone: maps.Clone(p.gone), safe: map[string]map[Pos]string{}, floors: map[uint64]Pos{}, dropped: map[uint64]Pos{}}
	for name, a := range p.named {
		if a.there {
			n.topics[name] = a.meta.ID
		}
		n.safe[name] = maps.Clone(a.safe)
		n.dropped[a.meta.ID] = a.gone
		for _, c := range a.chans {
			n.floors[c.c.ID] = c.floor
			if c.there {
				n.channels = append(n.channels, c.c.ID)
			}
		}
	}
	p.promise.Store(n)
}

func (p *play) topic(name string) {
	meta, logs, err := p.st.CreateTopic(name, false)
	require.NoError(p.t, err)
	p.named[name] = &act{meta: meta, logs: logs, safe: map[Pos]string{}, open: map[Pos]string{}, chans: map[string]*chanAct{}}
}

func (p *play) channel(topic, name string) {
	a := p.named[topic]
	c, slot, states, err := p.st.CreateChannel(a.meta, name, [2]Pos{a.logs[0].Committed(), a.logs[1].Committed()}, false)
	require.NoError(p.t, err)
	a.chans[name] = &chanAct{c: c, slot: slot, states: states, floor: a.logs[0].Committed()}
	a.meta.Held = false
	require.NoError(p.t, p.st.SaveTopic(a.meta))
}

func (p *play) pub(topic string, n, size int) {
	a := p.named[topic]
	from := a.logs[0].Committed()
	appendAll(p.t, a.logs[0], makeBodies(len(topic), int(from%1e6), n, size))
	list := readLog(p.t, a.logs[0], from, a.logs[0].Committed(), 256, 1<<20)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[topic] == nil {
		p.all[topic] = map[Pos]string{}
	}
	for _, m := range list {
		a.open[m.pos] = m.body
		p.all[topic][m.pos] = m.body
	}
}

// fin claims and finishes everything of a channel below its topic's end but the last keep messages.
func (p *play) fin(topic, name string, keep int) {
	a := p.named[topic]
	c := a.chans[name]
	end := a.logs[0].Committed()
	for at := c.floor; at < end; {
		from, to := a.logs[0].Next(at, end)
		if from >= end {
			break
		}
		c.states[0].Ensure(from, int(to-from))
		for q := from; q < to-min(to-from, Pos(keep)); q++ {
			c.states[0].Finish(q)
		}
		at = to
		if keep > 0 {
			end = to - min(to-from, Pos(keep))
		}
	}
	c.slot.SetCursor(StreamMain, a.logs[0].Committed())
	c.floor = end
	p.promised()
	c.slot.SetFloor(StreamMain, end)
	c.states[0].MarkDirty()
}

func (p *play) round() {
	p.st.sync.round()
	require.NoError(p.t, p.st.Failed())
	for _, a := range p.named {
		require.True(p.t, a.logs[0].Durable(a.logs[0].Committed()))
		maps.Copy(a.safe, a.open)
		clear(a.open)
		a.there, a.gone = true, a.dropped
		for _, c := range a.chans {
			c.there = true
		}
	}
	p.promised()
}

// free gives up what all channels finished.
func (p *play) free(topic string) {
	a := p.named[topic]
	floor := a.logs[0].Committed()
	for _, c := range a.chans {
		floor = min(floor, c.floor)
	}
	maps.DeleteFunc(a.safe, func(at Pos, _ string) bool { return at < floor })
	maps.DeleteFunc(a.open, func(at Pos, _ string) bool { return at < floor })
	p.promised()
	a.logs[0].Truncate(func(_, to Pos) bool { return to > floor })
	for _, c := range a.chans {
		require.NoError(p.t, p.st.ReleaseState(c.states[0], c.floor))
	}
}

// empty drops everything that a topic without channels holds.
func (p *play) empty(topic string) {
	a := p.named[topic]
	require.Empty(p.t, a.chans)
	end := a.logs[0].Committed()
	clear(a.safe)
	clear(a.open)
	p.promised()
	require.NoError(p.t, a.logs[0].Drop(max(a.meta.Base[0], a.dropped), end))
	a.dropped, a.meta.HeldAt[0] = end, end
	require.NoError(p.t, p.st.SaveTopic(a.meta))
}

func (p *play) drop(topic, name string) {
	a := p.named[topic]
	c := a.chans[name]
	delete(a.chans, name)
	p.promised()
	require.NoError(p.t, p.st.DeleteChannel(c.c, a.meta))
	require.NoError(p.t, p.st.DropChannel(c.slot, c.states, false))
}

func (p *play) del(topic string) {
	a := p.named[topic]
	delete(p.named, topic) // from here on it may be gone
	p.promised()
	for _, l := range a.logs {
		l.Close()
	}
	require.NoError(p.t, p.st.DeleteTopic(a.meta, a.logs))
	p.gone[a.meta.ID] = true
	p.promised()
	require.True(p.t, a.logs[0].Remove() && a.logs[1].Remove())
	for _, c := range a.chans {
		require.NoError(p.t, p.st.DropChannel(c.slot, c.states, false))
	}
}

// check starts on what is left and compares it with what was promised.
func (p *play) check(left *HeapDisk, want *promise) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts++
	st, err := Open(left, small)
	require.NoError(p.t, err)
	defer st.Abandon()
	found := map[string]RecoveredTopic{}
	var channels []uint64
	for _, rt := range st.Topics() {
		require.False(p.t, want.gone[rt.Meta.ID], "cut %d: topic %s is back", p.cuts, rt.Meta.Name)
		found[rt.Meta.Name] = rt
		p.checkTopic(st, rt, want)
		for _, c := range rt.Meta.Channels {
			channels = append(channels, c.ID)
		}
	}
	require.Subset(p.t, channels, want.channels, "cut %d: a channel is gone", p.cuts)
	for name, id := range want.topics {
		rt, ok := found[name]
		require.True(p.t, ok && rt.Meta.ID == id, "cut %d: topic %s is gone", p.cuts, name)
		got := map[Pos]string{}
		for _, m := range readAll(p.t, rt.Logs[0]) {
			got[m.pos] = m.body
		}
		for at, body := range want.safe[name] {
			if got[at] != body {
				p.t.Fatalf("cut %d: message %d of topic %s was promised and is lost", p.cuts, at, name)
			}
		}
	}
}

func (p *play) checkTopic(st *Store, rt RecoveredTopic, want *promise) {
	var states []*State
	for _, c := range rt.Meta.Channels {
		_, s, floor, cursor, err := st.RecoverChannel(*c, rt.Logs)
		require.NoError(p.t, err)
		require.LessOrEqual(p.t, floor[0], cursor[0])
		if truth, ok := want.floors[c.ID]; ok {
			require.LessOrEqual(p.t, floor[0], truth, "cut %d: the floor of channel %s runs ahead", p.cuts, c.Name)
		}
		states = append(states, s[0])
	}
	l := rt.Logs[0]
	last := Pos(0)
	for _, m := range readAll(p.t, l) {
		if p.all[rt.Meta.Name][m.pos] != m.body {
			p.t.Fatalf("cut %d: topic %s has at %d what was never stored there", p.cuts, rt.Meta.Name, m.pos)
		}
		require.GreaterOrEqual(p.t, m.pos, want.dropped[rt.Meta.ID], "cut %d: what Empty of topic %s dropped is back", p.cuts, rt.Meta.Name)
		last = m.pos
	}
	// What is published now is new to every channel.
	from := l.Committed()
	appendAll(p.t, l, [][]byte{[]byte("new")})
	fresh := readLog(p.t, l, from, l.Committed(), 10, 1000)
	require.Len(p.t, fresh, 1)
	require.Greater(p.t, fresh[0].pos, last)
	for _, s := range states {
		s.Ensure(fresh[0].pos, 1)
		require.Zero(p.t, s.Get(fresh[0].pos), "cut %d: a new message has a state", p.cuts)
	}
}

// script is what happens; step is called between two steps.
func (p *play) script(step func()) {
	steps := []func(){
		func() { p.topic("a"); p.channel("a", "x") },
		func() { p.pub("a", 30, 100) }, p.round,
		func() { p.topic("bb"); p.pub("bb", 100, 1500) }, p.round,
		func() { p.pub("a", 200, 900) }, func() { p.fin("a", "x", 10) }, p.round,
		func() { p.free("a") }, func() { p.pub("a", 100, 700) }, p.round,
		func() { p.channel("a", "y"); p.channel("bb", "z") },
		func() { p.pub("a", 150, 700) }, func() { p.fin("a", "y", 0) }, func() { p.fin("a", "x", 3); p.free("a") },
		func() { p.pub("bb", 200, 800) }, p.round, func() { p.drop("a", "x"); p.channel("a", "w") },
		func() { p.fin("bb", "z", 0); p.free("bb") }, func() { p.pub("a", 40, 2000) }, p.round,
		func() { p.del("bb"); p.topic("bb"); p.pub("bb", 50, 50) }, p.round,
		func() { require.NoError(p.t, p.st.man.rewrite()) }, func() { p.topic("ccc") }, p.round, func() { p.pub("bb", 20, 3000); p.pub("a", 1, 70<<10) }, p.round,
		func() { p.pub("ccc", 100, 900) }, func() { p.empty("ccc") }, p.round, func() { p.pub("ccc", 5, 100); p.empty("ccc") },
		func() { p.pub("ccc", 100, 1000) }, func() { p.empty("ccc") }, func() { p.pub("ccc", 9, 9) }, p.round, func() { p.free("ccc") },
		func() { require.NoError(p.t, p.st.man.rewrite()) }, func() { p.pub("ccc", 3, 10) }, p.round,
		func() { p.del("a") }, func() { p.topic("a"); p.channel("a", "x"); p.pub("a", 5, 5) }, p.round,
	}
	for _, s := range steps {
		s()
		step()
	}
}

func newPlay(t *testing.T) *play {
	p := &play{t: t, d: newCrashDisk(), named: map[string]*act{}, gone: map[uint64]bool{}, all: map[string]map[Pos]string{}}
	p.st = open(t, p.d, small)
	p.promised()
	return p
}

// TestPowerCutAtEveryOperation: what a sync round covered is there after a power cut before any later operation, when the kernel wrote nothing
// else.
func TestPowerCutAtEveryOperation(t *testing.T) {
	p := newPlay(t)
	p.d.before = func() {
		want := p.promise.Load()
		left := p.d.afterCut(nil)
		if p.promise.Load() != want || t.Failed() {
			return // the script overtook the preparer
		}
		var wg sync.WaitGroup
		wg.Go(func() { p.check(left, want) }) // what fails there must not end the preparer
		wg.Wait()
	}
	p.script(func() {})
	p.st.Abandon()
	require.Greater(t, p.cuts, 120)
}

// TestPowerCutKeepsAnyPages: the same between two steps, when the kernel had written any of the other pages as well.
func TestPowerCutKeepsAnyPages(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 9))
		p := newPlay(t)
		p.script(func() {
			p.settle()
			for range 3 {
				p.check(p.d.afterCut(r), p.promise.Load())
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
		p.st.Abandon()
	}
}

// settle waits until the preparer has nothing to do.
func (p *play) settle() {
	for _, a := range p.named {
		for _, l := range a.logs {
			l.mu.Lock()
			for l.asked {
				l.ready.Wait()
			}
			l.mu.Unlock()
		}
	}
}
