package mmapq

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	cloneSeeds = flag.Uint64("clone.seeds", 3, "number of runs of TestCrashClone, each with draws of its own")
	cloneEach  = flag.Int("clone.each", 1, "power cuts of each run at every operation of the disk")
)

// cloneFound is a channel that was read back.
type cloneFound struct {
	slot          *ChannelSlot
	states        [2]*State
	floor, cursor [2]Pos
	delays        []Delay
}

// cut compares what power cuts at this moment would leave with what was promised.
func (p *clonePlay) cut() {
	if p.quiet || p.t.Failed() {
		return
	}
	p.ops++
	p.d.leak(p.r)
	for range p.each {
		p.cuts++
		seed := p.r.Uint64()
		if err := p.compare(p.d.afterCut(rand.New(rand.NewPCG(seed, 1)))); err != nil {
			p.t.Fatalf("%s, operation %d: %v", p.step, p.ops, err)
		}
	}
}

// compare starts on what is left.
func (p *clonePlay) compare(left Disk) error {
	st, err := bare(left)
	if err != nil {
		return fmt.Errorf("no start: %w", err)
	}
	found := map[uint64]bool{}
	channels := map[uint64]cloneFound{}
	for _, rt := range st.Topics() {
		a := p.topics[rt.Meta.ID]
		if a == nil || a.there == never || a.meta.Name != rt.Meta.Name {
			return fmt.Errorf("topic %s (%d) is there", rt.Meta.Name, rt.Meta.ID)
		}
		found[rt.Meta.ID] = true
		if err := p.compareTopic(st, a, rt, channels); err != nil {
			return fmt.Errorf("topic %s: %w", rt.Meta.Name, err)
		}
	}
	st.FinishRecovery()
	for id, a := range p.topics {
		if a.there == surely && !found[id] {
			return fmt.Errorf("topic %s is gone", a.meta.Name)
		}
		for id, c := range a.chans {
			if a.there == surely && c.there == surely && channels[id].slot == nil {
				return fmt.Errorf("channel %s of topic %s is gone", c.meta.Name, a.meta.Name)
			}
		}
	}
	for _, rt := range st.Topics() {
		if err := p.compareFresh(st, rt, channels); err != nil {
			return fmt.Errorf("topic %s: %w", rt.Meta.Name, err)
		}
	}
	return nil
}

func (p *clonePlay) compareTopic(st *Store, a *cloneTopic, rt RecoveredTopic, channels map[uint64]cloneFound) error {
	known := false
	for _, m := range a.modes {
		known = known || m == modeOf(rt.Meta)
	}
	if !known {
		return fmt.Errorf("it is %v, was %v", modeOf(rt.Meta), a.modes)
	}
	var there [2]map[Pos]bool
	for s, l := range rt.Logs {
		var err error
		if there[s], err = p.compareLog(a, Stream(s), l); err != nil {
			return fmt.Errorf("stream %d: %w", s, err)
		}
	}
	for _, m := range rt.Meta.Channels {
		c := a.chans[m.ID]
		if c == nil || c.there == never || c.meta.Name != m.Name {
			return fmt.Errorf("channel %s (%d) is there", m.Name, m.ID)
		}
		got, err := p.compareChannel(st, a, c, *m, rt.Logs, there)
		if err != nil {
			return fmt.Errorf("channel %s: %w", m.Name, err)
		}
		channels[m.ID] = got
	}
	return nil
}

// compareLog finds nothing that was not published at its position, and all that must be there.
func (p *clonePlay) compareLog(a *cloneTopic, s Stream, l *Log) (map[Pos]bool, error) {
	there := map[Pos]bool{}
	for _, m := range readAll(p.t, l) {
		was := a.msgs[s][m.pos]
		switch {
		case was == nil:
			return nil, fmt.Errorf("position %d was never given", m.pos)
		case was.body != m.body:
			return nil, fmt.Errorf("position %d holds another body", m.pos)
		case m.pos < a.stays[s]:
			return nil, fmt.Errorf("position %d is back, Empty dropped it", m.pos)
		}
		there[m.pos] = true
	}
	for at, m := range a.msgs[s] {
		if m.safe && !there[at] && a.there == surely && a.needed(s, at) {
			return nil, fmt.Errorf("position %d is lost", at)
		}
	}
	if s != StreamDeferred {
		return there, nil
	}
	var err error
	for at, end := Pos(0), l.Committed(); at < end; {
		at = l.EachDue(at, end, 1000, func(q Pos, due int64) {
			if m := a.msgs[s][q]; m == nil || m.due != due {
				err = fmt.Errorf("position %d is due at %d", q, due)
			}
		})
	}
	return there, err
}

// compareChannel finds nothing finished that nobody finished, nothing unfinished that was finished and synced, no count too high and every delay.
func (p *clonePlay) compareChannel(st *Store, a *cloneTopic, c *cloneChan, m ChannelMeta, logs [2]*Log, there [2]map[Pos]bool) (got cloneFound, err error) {
	known := false
	for _, paused := range c.paused {
		known = known || paused == m.Paused
	}
	if !known {
		return got, fmt.Errorf("it is paused %v, was %v", m.Paused, c.paused)
	}
	got.slot, got.states, got.floor, got.cursor, err = st.RecoverChannel(m, logs)
	if err != nil {
		return got, err
	}
	got.delays = st.Delays(m.ID)
	states, floor, cursor := got.states, got.floor, got.cursor
	for s := range states {
		if floor[s] > cursor[s] {
			return got, fmt.Errorf("its floor %d is above its cursor %d", floor[s], cursor[s])
		}
		for at := range there[s] {
			w := states[s].Get(at)
			done := at < floor[s] || w == Finished
			given := c.finished(Stream(s), at)
			switch {
			case done && !given:
				return got, fmt.Errorf("position %d of stream %d is finished, floor %d, state %d", at, s, floor[s], w)
			case !done && c.fins[s][at] && c.there == surely && a.there == surely:
				return got, fmt.Errorf("position %d of stream %d is not finished any more, floor %d", at, s, floor[s])
			case w != Finished && w > c.attempts[s][at]:
				return got, fmt.Errorf("position %d of stream %d has %d deliveries of %d", at, s, w, c.attempts[s][at])
			}
		}
	}
	return got, p.compareDelays(st, c)
}

func (p *clonePlay) compareDelays(st *Store, c *cloneChan) error {
	got := map[Delay]bool{}
	for _, d := range st.Delays(c.meta.ID) {
		if _, ok := p.delays[d]; !ok && d.Due > p.turned {
			return fmt.Errorf("a delay that nobody asked for: %v", d)
		}
		got[d] = true
	}
	for d, safe := range p.delays {
		if safe && d.Channel == c.meta.ID && !got[d] {
			return fmt.Errorf("delay %v is lost", d)
		}
	}
	return nil
}

// compareFresh publishes: what comes now has a position that nobody remembers, and no state or delay. (It may be that of a message that no round
// covered and of which nothing is left.)
func (p *clonePlay) compareFresh(st *Store, rt RecoveredTopic, channels map[uint64]cloneFound) error {
	for s, l := range rt.Logs {
		from := l.Committed()
		_, _, err := l.Append([][]byte{[]byte("new")}, 1, 1)
		if errors.Is(err, ErrWouldBlock) {
			st.prepare.drain(nil)
			_, _, err = l.Append([][]byte{[]byte("new")}, 1, 1)
		}
		if err != nil {
			return err
		}
		list := readLog(p.t, l, from, l.Committed(), 10, 1000)
		if len(list) != 1 {
			return fmt.Errorf("stream %d: new messages %v", s, list)
		}
		at := list[0].pos
		for _, a := range p.topics {
			if m := a.msgs[s][at]; m != nil && m.safe && a.meta.Name == rt.Meta.Name {
				return fmt.Errorf("stream %d: position %d is given twice", s, at)
			}
		}
		for _, m := range rt.Meta.Channels {
			c := channels[m.ID]
			c.states[s].Ensure(at, 1)
			if w := c.states[s].Get(at); w != 0 || at < c.cursor[s] {
				return fmt.Errorf("stream %d: new message %d has state %d in channel %s, cursor %d", s, at, w, m.Name, c.cursor[s])
			}
			for _, d := range c.delays {
				if d.Stream == Stream(s) && d.Pos == at {
					return fmt.Errorf("stream %d: new message %d has a delay", s, at)
				}
			}
		}
	}
	return nil
}

// script is what happens.
func (p *clonePlay) script() []cloneStep {
	hour := int64(3600e9)
	return []cloneStep{
		{"create", func() { p.topic("a"); p.topic("bb"); p.channel("a", "x") }},
		{"publish", func() { p.pub("a", 40, 300, 0); p.pub("bb", 90, 900, 0); p.pub("a", 20, 100, 4e12) }},
		{"round", p.round},
		{"finish", func() { p.fin("a", "x", 5) }},
		{"requeue", func() { p.req("a", "x", hour) }},
		{"round", p.round},
		{"roll", func() { p.pub("a", 150, 900, 0); p.pub("a", 120, 600, 5e12) }},
		{"second channel", func() { p.channel("a", "y"); p.channel("bb", "z") }},
		{"round", p.round},
		{"finish some", func() { p.pub("a", 150, 900, 0); p.fin("a", "x", 40); p.fin("a", "y", 50) }},
		{"free", func() { p.free("a") }},
		{"round", p.round},
		{"compact", func() { p.compact("a", StreamMain) }},
		{"compact deferred", func() {
			p.pub("a", 250, 900, 6e12)
			p.fin("a", "x", 60)
			p.fin("a", "y", 60)
			p.compact("a", StreamDeferred)
		}},
		{"pause", func() { p.pause("a", true); p.pauseChannel("bb", "z", true); p.pub("a", 20, 100, 0) }},
		{"round", p.round},
		{"recycle", func() { p.fin("bb", "z", 0); p.free("bb"); p.pub("bb", 150, 900, 0) }},
		{"unpause", func() { p.pause("a", false); p.pauseChannel("bb", "z", false) }},
		{"requeue shortly", func() { p.req("a", "x", int64(5e9)); p.req("a", "y", 20*int64(60e9)) }},
		{"round", p.round},
		{"turn", func() { p.turn(int64(10e9)); p.turn(2 * int64(60e9)) }},
		{"full disk", func() {
			p.pub("a", 250, 900, 0)
			p.brim()
			p.fin("a", "x", 40)
			p.fin("a", "y", 40)
			p.fin("bb", "z", 7)
			p.req("bb", "z", 10*hour)
			require.False(p.t, p.st.spare.whole(), "the delays took of it")
			p.pauseChannel("a", "x", true)
			p.compact("a", StreamMain)
		}},
		{"round on a full disk", p.round},
		{"space again", p.ebb},
		{"empty channel", func() { p.emptyChannel("a", "y") }},
		{"round", p.round},
		{"delete channel", func() { p.drop("a", "x"); p.channel("a", "x"); p.pub("a", 30, 700, 0) }},
		{"round", p.round},
		{"stop and start", p.restart},
		{"publish again", func() { p.pub("a", 60, 900, 0); p.pub("a", 60, 900, 7e12); p.pub("bb", 60, 900, 0) }},
		{"finish all", func() { p.fin("a", "x", 9); p.fin("a", "y", 0); p.fin("bb", "z", 0); p.free("a"); p.free("bb") }},
		{"round", p.round},
		{"delete topic", func() { p.del("bb"); p.topic("bb"); p.pub("bb", 100, 900, 0); p.pub("bb", 10, 90, 8e12) }},
		{"round", p.round},
		{"empty topic", func() { p.emptyTopic("bb") }},
		{"round", p.round},
		{"after that", func() { p.pub("bb", 30, 900, 0); p.channel("bb", "z"); p.fin("bb", "z", 3) }},
		{"rewrite", func() { require.NoError(p.t, p.st.man.rewrite()) }},
		{"last channel", func() { p.drop("bb", "z"); p.pub("bb", 20, 900, 0); p.pub("a", 1, 100<<10, 0) }},
		{"round", p.round},
		{"delete all", func() { p.del("a"); p.topic("a"); p.channel("a", "x"); p.pub("a", 5, 50, 0) }},
		{"stop and start", p.restart},
	}
}

type cloneStep struct {
	name string
	do   func()
}

// TestCrashClone: a power cut at every operation of the disk, and whatever the kernel had written by then, leaves what was promised: what a round
// covered is there, nothing is there that never was, no position is given twice, topics and channels are as before or as after.
func TestCrashClone(t *testing.T) {
	for seed := range *cloneSeeds {
		p := newClonePlay(t, seed, *cloneEach)
		for _, s := range p.script() {
			p.step = fmt.Sprintf("seed %d, %s", seed, s.name)
			s.do()
		}
		require.NoError(t, p.st.Failed())
		require.Greater(t, p.ops, 300)
		t.Logf("seed %d: %d operations, %d power cuts", seed, p.ops, p.cuts)
	}
}
