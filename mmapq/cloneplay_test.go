package mmapq

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// clonePlay runs a script on a crash disk with a quota, all of it in one goroutine: the store's own goroutines are not started, the script does
// their work. So at every operation of the disk the world stands still, and what several power cuts would leave is cloned, started on and
// compared with what was promised (clonecheck_test.go).
type clonePlay struct {
	t      *testing.T
	d      *crashDisk
	q      *quotaDisk
	st     *Store
	r      *rand.Rand
	each   int // clones at every operation
	topics map[uint64]*cloneTopic
	named  map[string]*cloneTopic
	handed map[string]map[Pos]bool // by name of the topic and stream: positions that were ever given
	delays map[Delay]bool          // saved: true when a round covered it
	turned int64                   // delays due by then are not looked at any more
	bodies int

	step  string
	quiet bool // no clones now
	cuts  int
	ops   int
}

// presence of a topic or channel after a power cut.
type presence int

const (
	perhaps presence = iota
	surely
	never
)

// mode is what a topic's state record says.
type mode struct {
	paused, held bool
	at           [2]Pos
}

func modeOf(m TopicMeta) mode { return mode{m.Paused, m.Held, m.HeldAt} }

type cloneTopic struct {
	there   presence
	meta    TopicMeta
	logs    [2]*Log
	modes   []mode // one of these is recovered
	chans   map[uint64]*cloneChan
	msgs    [2]map[Pos]*cloneMsg
	dropped [2]Pos // Empty dropped what is below
	stays   [2]Pos // likewise, and a round covered it
	past    [2]Pos // what is below lost its last channel
}

type cloneMsg struct {
	body string
	due  int64
	safe bool
}

type cloneChan struct {
	there    presence
	meta     ChannelMeta
	slot     *ChannelSlot
	states   [2]*State
	paused   []bool // one of these is recovered
	floor    [2]Pos
	cursor   [2]Pos
	fins     [2]map[Pos]bool // given: true when a round covered it
	attempts [2]map[Pos]uint16
}

func (c *cloneChan) finished(s Stream, p Pos) bool {
	_, ok := c.fins[s][p]
	return ok || p < c.floor[s] || p < c.meta.Start[s]
}

var cloneOptions = Options{SegmentMax: 64 << 10, PoolBytes: 256 << 10, DiskReserve: 512 << 10}

const cloneQuota = 32 << 20

// bare reads d back as Open does, without goroutines.
func bare(d Disk) (*Store, error) {
	st := newStore(d, cloneOptions)
	st.sync.workers = 1
	return st, contain(st.load)
}

func newClonePlay(t *testing.T, seed uint64, each int) *clonePlay {
	p := &clonePlay{
		t: t, d: newCrashDisk(), r: rand.New(rand.NewPCG(seed, 77)), each: each, topics: map[uint64]*cloneTopic{}, named: map[string]*cloneTopic{},
		handed: map[string]map[Pos]bool{}, delays: map[Delay]bool{},
	}
	p.q = newQuotaDisk(cloneQuota)
	p.q.Disk = p.d
	p.d.before = p.cut
	var err error
	p.st, err = bare(p.q)
	require.NoError(t, err)
	return p
}

// pump does the preparer's work.
func (p *clonePlay) pump() { p.st.prepare.drain(nil) }

func (p *clonePlay) topic(name string) {
	meta, logs, err := p.st.CreateTopic(name, false)
	require.NoError(p.t, err)
	a := &cloneTopic{meta: meta, logs: logs, modes: []mode{modeOf(meta)}, chans: map[uint64]*cloneChan{}}
	a.msgs = [2]map[Pos]*cloneMsg{{}, {}}
	p.topics[meta.ID], p.named[name] = a, a
}

func (p *clonePlay) saveTopic(a *cloneTopic) {
	a.modes = append(a.modes, modeOf(a.meta))
	require.NoError(p.t, p.st.SaveTopic(a.meta))
}

func (a *cloneTopic) channel(name string) *cloneChan {
	for _, c := range a.chans {
		if c.meta.Name == name && c.there != never {
			return c
		}
	}
	panic(name)
}

func (a *cloneTopic) live() (list []*cloneChan) {
	for _, id := range slices.Sorted(maps.Keys(a.chans)) {
		if c := a.chans[id]; c.there != never {
			list = append(list, c)
		}
	}
	return list
}

// channel makes one; the first of a topic begins with what was held for it.
func (p *clonePlay) channel(topic, name string) {
	a := p.named[topic]
	start := [2]Pos{a.logs[0].Committed(), a.logs[1].Committed()}
	if a.meta.Held {
		start = a.meta.HeldAt
	}
	meta, slot, states, err := p.st.CreateChannel(a.meta, name, start, false)
	require.NoError(p.t, err)
	c := &cloneChan{meta: meta, slot: slot, states: states, paused: []bool{false}, floor: start, cursor: start}
	c.fins, c.attempts = [2]map[Pos]bool{{}, {}}, [2]map[Pos]uint16{{}, {}}
	a.chans[meta.ID] = c
	a.meta.Held = a.meta.Paused
	p.saveTopic(a)
}

// pub publishes n messages; due > 0: deferred ones.
func (p *clonePlay) pub(topic string, n, size int, due int64) {
	a := p.named[topic]
	s := StreamMain
	if due > 0 {
		s = StreamDeferred
	}
	l, key := a.logs[s], fmt.Sprint(topic, s)
	if p.handed[key] == nil {
		p.handed[key] = map[Pos]bool{}
	}
	for bodies := makeBodies(len(topic), p.bodies, n, size); len(bodies) > 0; {
		from := l.Committed()
		done, _, err := l.Append(bodies[:min(len(bodies), 1+p.r.IntN(5))], 1, due)
		if done > 0 {
			for _, m := range readLog(p.t, l, from, l.Committed(), 256, 1<<20) {
				require.False(p.t, p.handed[key][m.pos], "position %d of %s is given twice", m.pos, topic)
				p.handed[key][m.pos] = true
				a.msgs[s][m.pos] = &cloneMsg{body: m.body, due: due}
			}
		}
		bodies = bodies[done:]
		if err != nil {
			require.ErrorIs(p.t, err, ErrWouldBlock)
			p.pump()
		} else if p.r.IntN(4) == 0 {
			p.pump()
		}
	}
	p.bodies += n
}

// fin claims everything and finishes all of what is left but every keep-th message.
func (p *clonePlay) fin(topic, name string, keep int) {
	a := p.named[topic]
	c := a.channel(name)
	for s, l := range a.logs {
		end := l.Committed()
		for at := c.cursor[s]; at < end; {
			from, to := l.Next(at, end)
			if from >= end {
				break
			}
			c.states[s].Ensure(from, int(to-from))
			at = to
		}
		c.cursor[s] = max(c.cursor[s], end)
		c.slot.SetCursor(Stream(s), c.cursor[s])
		i, gap := 0, false
		floor := c.floor[s]
		for _, at := range slices.Sorted(maps.Keys(a.msgs[s])) {
			if at < c.floor[s] || at < a.dropped[s] {
				continue
			}
			if _, was := c.fins[s][at]; !was {
				if i++; keep == 0 || i%keep != 1 {
					c.fins[s][at] = false
					require.True(p.t, c.states[s].Finish(at))
				} else {
					c.attempts[s][at]++
					require.True(p.t, c.states[s].SetAttempts(at, c.attempts[s][at]))
				}
			}
			if _, done := c.fins[s][at]; !gap && done {
				floor = at + 1
			} else {
				gap = true
			}
		}
		if c.floor[s] = floor; !gap {
			c.floor[s] = c.cursor[s]
		}
		c.slot.SetFloor(Stream(s), c.floor[s])
		c.states[s].MarkDirty()
	}
}

// req records delays of what is in flight.
func (p *clonePlay) req(topic, name string, in int64) {
	c := p.named[topic].channel(name)
	var list []Delay
	for _, at := range slices.Sorted(maps.Keys(c.attempts[0])) {
		if !c.finished(StreamMain, at) && len(list) < 20 {
			list = append(list, Delay{Channel: c.meta.ID, Pos: at, Due: p.st.now() + in + int64(len(list)), Attempts: c.attempts[0][at]})
		}
	}
	require.NotEmpty(p.t, list)
	for _, d := range list {
		p.delays[d] = false
	}
	require.NoError(p.t, p.st.SaveDelays(list, p.st.now()))
}

// turn lets so much time pass for the delays.
func (p *clonePlay) turn(in int64) {
	now := p.st.now() + in
	p.turned = now
	maps.DeleteFunc(p.delays, func(d Delay, _ bool) bool { return d.Due <= now })
	require.NoError(p.t, p.st.TurnDelays(now))
}

// needed tells whether a message may not be freed.
func (a *cloneTopic) needed(s Stream, at Pos) bool {
	if at < max(a.dropped[s], a.past[s]) {
		return false
	}
	list := a.live()
	return len(list) == 0 || slices.ContainsFunc(list, func(c *cloneChan) bool { return !c.finished(s, at) })
}

// free gives up what all channels finished.
func (p *clonePlay) free(topic string) {
	a := p.named[topic]
	for s, l := range a.logs {
		at := slices.Sorted(maps.Keys(a.msgs[s]))
		l.Truncate(func(from, to Pos) bool {
			return slices.ContainsFunc(at, func(q Pos) bool { return q >= from && q < to && a.needed(Stream(s), q) })
		})
		for _, c := range a.live() {
			require.NoError(p.t, p.st.ReleaseState(c.states[s], c.floor[s]))
		}
	}
}

// cloneLive is what a compaction asks.
type cloneLive struct {
	a *cloneTopic
	s Stream
}

func (l cloneLive) Ripe(Pos) bool { return true }

func (l cloneLive) Each(from, to Pos, f func(Pos) bool) {
	for _, at := range slices.Sorted(maps.Keys(l.a.msgs[l.s])) {
		if at >= from && at < to && l.a.needed(l.s, at) && !f(at) {
			return
		}
	}
}

// compact must find something to do.
func (p *clonePlay) compact(topic string, s Stream) {
	a := p.named[topic]
	limit := a.logs[s].Committed()
	for _, c := range a.live() {
		limit = min(limit, c.cursor[s])
	}
	done, err := a.logs[s].Compact(limit, 32<<10, cloneLive{a, s})
	require.NoError(p.t, err)
	require.True(p.t, done, p.step)
	a.logs[s].FreeReplaced()
}

// emptyTopic drops what is held for the first channel.
func (p *clonePlay) emptyTopic(topic string) {
	a := p.named[topic]
	require.True(p.t, a.meta.Held)
	for s, l := range a.logs {
		end := l.Committed()
		from := a.meta.HeldAt[s]
		a.dropped[s] = end
		require.NoError(p.t, l.Drop(from, end))
		a.meta.HeldAt[s] = max(end, from)
	}
	p.saveTopic(a)
}

// emptyChannel drops all that a channel has.
func (p *clonePlay) emptyChannel(topic, name string) {
	a := p.named[topic]
	c := a.channel(name)
	for s, l := range a.logs {
		end := max(c.cursor[s], l.Committed())
		for at := range a.msgs[s] {
			if !c.finished(Stream(s), at) {
				c.fins[s][at] = false
			}
		}
		c.cursor[s], c.floor[s] = end, end
		c.slot.SetCursor(Stream(s), end)
		c.slot.SetFloor(Stream(s), end)
		c.states[s].MarkDirty()
	}
}

func (p *clonePlay) pause(topic string, on bool) {
	a := p.named[topic]
	a.meta.Paused = on
	if on && !a.meta.Held {
		a.meta.HeldAt = [2]Pos{a.logs[0].Committed(), a.logs[1].Committed()}
	}
	a.meta.Held = on || len(a.live()) == 0
	p.saveTopic(a)
}

func (p *clonePlay) pauseChannel(topic, name string, on bool) {
	c := p.named[topic].channel(name)
	c.meta.Paused = on
	c.paused = append(c.paused, on)
	require.NoError(p.t, p.st.SaveChannelPaused(c.meta))
}

// drop deletes a channel.
func (p *clonePlay) drop(topic, name string) {
	a := p.named[topic]
	c := a.channel(name)
	c.there = perhaps
	if len(a.live()) == 1 {
		a.meta.Held, a.meta.HeldAt = true, [2]Pos{a.logs[0].Committed(), a.logs[1].Committed()}
		a.past = a.meta.HeldAt
	}
	a.modes = append(a.modes, modeOf(a.meta))
	require.NoError(p.t, p.st.DeleteChannel(c.meta, a.meta))
	require.NoError(p.t, p.st.DropChannel(c.slot, c.states, false))
	c.there = never
}

// del deletes a topic.
func (p *clonePlay) del(topic string) {
	a := p.named[topic]
	a.there = perhaps
	delete(p.named, topic)
	for _, l := range a.logs {
		l.Close()
	}
	require.NoError(p.t, p.st.DeleteTopic(a.meta, a.logs))
	a.there = never
	p.pump()
	for _, l := range a.logs {
		require.True(p.t, l.Remove())
	}
	for _, c := range a.live() {
		c.there = never
		require.NoError(p.t, p.st.DropChannel(c.slot, c.states, false))
	}
}

func (p *clonePlay) round() {
	p.st.sync.round()
	require.NoError(p.t, p.st.Failed())
	p.covered()
}

// covered: a round did all that it had to.
func (p *clonePlay) covered() {
	for d := range p.delays {
		p.delays[d] = true
	}
	for _, a := range p.topics {
		if a.there == never {
			continue
		}
		a.there, a.stays = surely, a.dropped
		a.modes = a.modes[len(a.modes)-1:]
		for s := range a.msgs {
			for _, m := range a.msgs[s] {
				m.safe = true
			}
		}
		for _, c := range a.live() {
			c.there = surely
			c.paused = c.paused[len(c.paused)-1:]
			for s := range c.fins {
				for at := range c.fins[s] {
					c.fins[s][at] = true
				}
			}
		}
	}
}

// restart is a clean stop and a start.
func (p *clonePlay) restart() {
	p.pump()
	for _, a := range p.named {
		for _, l := range a.logs {
			l.Close()
		}
	}
	require.NoError(p.t, p.st.Close())
	p.covered()
	var err error
	p.st, err = bare(p.q)
	require.NoError(p.t, err)
	for _, rt := range p.st.Topics() {
		a := p.named[rt.Meta.Name]
		a.meta, a.logs = rt.Meta, rt.Logs
		for s, l := range a.logs {
			l.Seen(rt.Meta.HeldAt[s])
		}
		for _, m := range rt.Meta.Channels {
			c := a.chans[m.ID]
			c.slot, c.states, c.floor, c.cursor, err = p.st.RecoverChannel(*m, rt.Logs)
			require.NoError(p.t, err)
		}
	}
	p.st.FinishRecovery()
}

// brim fills the disk, so that what comes next takes of the reserve; ebb gives the space back.
func (p *clonePlay) brim() { p.q.fill(0) }

func (p *clonePlay) ebb() {
	p.q.drain()
	p.st.CheckSpace()
	require.True(p.t, p.st.spare.whole())
}
