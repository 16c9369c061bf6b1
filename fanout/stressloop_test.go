package fanout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// stressLoop is an event loop reduced to what fanout sees of it: it owns consumers, takes mail, pumps, parks. It never polls: who forgets to
// wake it stops it.
type stressLoop struct {
	idx    int
	b      *Broker
	ledger *ledger
	rng    *rand.Rand

	mu   sync.Mutex
	mail []func()
	bell chan struct{}

	members map[*Channel][]*stressConsumer
	scratch Scratch
	run     Run
	now     int64
}

type stressConsumer struct {
	*Consumer
	plan  stressPlan
	ready bool
	held  []stressMsg
}

type stressMsg struct {
	id     [16]byte
	number int
}

// stressPlan is what a consumer does: per thousand messages.
type stressPlan struct {
	topic, channel                string
	rdy                           int64
	requeue, later, forget, touch int
	breakOff                      int // per thousand claims: the connection is lost while writing, and subscribes again
}

func newStressLoop(idx int, b *Broker, l *ledger) *stressLoop {
	s := &stressLoop{idx: idx, b: b, ledger: l, rng: rand.New(rand.NewPCG(uint64(idx), 3)), bell: make(chan struct{}, 1), members: map[*Channel][]*stressConsumer{}}
	b.AttachLoop(idx, s)
	return s
}

func (l *stressLoop) post(f func()) {
	l.mu.Lock()
	l.mail = append(l.mail, f)
	l.mu.Unlock()
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

func (l *stressLoop) WakeChannel(ch *Channel) { l.post(func() { l.pump(ch) }) }
func (l *stressLoop) ChannelChanged(ch *Channel) {
	l.post(func() {
		for _, c := range l.members[ch] {
			c.Refresh()
			if c.InFlight() == 0 {
				c.held = nil
			}
			c.update()
		}
		l.pump(ch)
	})
}

func (l *stressLoop) ChannelGone(ch *Channel) {
	l.post(func() {
		for _, c := range append([]*stressConsumer(nil), l.members[ch]...) {
			l.leave(c, ch)
			l.subscribe(c.plan) // a client that connects again
		}
	})
}

func (l *stressLoop) AcksSettled() {}

// serve is the loop. It ends when quit is closed.
func (l *stressLoop) serve(quit chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		for _, list := range l.members {
			for _, c := range list {
				if d := c.NextDeadline(); d != 0 {
					wait = min(wait, max(0, time.Duration(d-Now())))
				}
			}
		}
		timer.Reset(wait)
		select {
		case <-quit:
			return
		case <-l.bell:
		case <-timer.C:
		}
		l.mu.Lock()
		mail := l.mail
		l.mail = nil
		l.mu.Unlock()
		l.now = Now()
		for _, f := range mail {
			f()
		}
		l.expire()
	}
}

func (l *stressLoop) expire() {
	for ch, list := range l.members {
		for _, c := range list {
			if d := c.NextDeadline(); d != 0 && d <= l.now {
				l.ledger.giveBack(ch, c.held) // all of what it forgot: one timeout, and it answers everything else at once
				c.held = nil
				c.Expire(l.now)
				c.update()
			}
		}
		l.pump(ch)
	}
}

func (l *stressLoop) subscribe(p stressPlan) {
	for try := range 1000 {
		if try > 0 {
			time.Sleep(100 * time.Microsecond) // the topic's deletion is being recorded
		}
		t, err := l.b.Topic([]byte(p.topic))
		if errors.Is(err, ErrExiting) {
			return
		}
		l.ledger.must(err)
		ch, err := t.Channel([]byte(p.channel))
		if err == nil {
			var c *Consumer
			if c, err = ch.AddConsumer(l.idx, ConsumerOptions{}); err == nil {
				c.SetReady(p.rdy)
				sc := &stressConsumer{Consumer: c, plan: p}
				l.members[ch] = append(l.members[ch], sc)
				sc.update()
				l.pump(ch)
				return
			}
		}
		if !errors.Is(err, ErrExiting) {
			l.ledger.must(err)
		}
	}
	l.ledger.must(fmt.Errorf("%s/%s cannot be subscribed to", p.topic, p.channel))
}

// update tells the channel whether c could take a message.
func (c *stressConsumer) update() {
	if r := !c.closed && c.Credit() > 0; r != c.ready {
		c.ready = r
		c.Channel().AddReady(map[bool]int{true: 1, false: -1}[r])
	}
}

func (l *stressLoop) leave(c *stressConsumer, ch *Channel) {
	list := l.members[ch]
	for i, x := range list {
		if x == c {
			l.members[ch] = append(list[:i:i], list[i+1:]...)
		}
	}
	if len(l.members[ch]) == 0 {
		delete(l.members, ch)
	}
	l.ledger.giveBack(ch, c.held)
	c.held = nil
	if c.ready {
		c.ready = false
		ch.AddReady(-1)
	}
	c.Close(l.now)
}

// pump serves the consumers of ch in turn until there is nothing to take or nobody to take it.
func (l *stressLoop) pump(ch *Channel) {
	for {
		var c *stressConsumer
		for i, x := range l.members[ch] {
			if x.update(); x.ready {
				c = x
				list := l.members[ch]
				l.members[ch] = append(append(list[:i:i], list[i+1:]...), x)
				break
			}
		}
		if c == nil {
			return
		}
		after := l.ledger.mark(ch)
		if !c.Claim(l.now, &l.scratch, &l.run) {
			if c.Credit() == 0 {
				continue
			}
			if !ch.Park(l.idx) {
				return
			}
			continue
		}
		l.deliver(ch, c, after)
		c.EndBatch()
		c.update()
	}
}

// deliver parses what was claimed, and answers it as the plan says.
func (l *stressLoop) deliver(ch *Channel, c *stressConsumer, after int) {
	var got []stressMsg
	p := append(append([]byte(nil), l.run.Head...), l.run.Bytes...)
	for len(p) > 0 {
		n := int(binary.BigEndian.Uint32(p)) + 4
		m := stressMsg{id: [16]byte(p[18:34])}
		text, _, _ := strings.Cut(string(p[34:n]), "|")
		number, err := strconv.Atoi(text)
		l.ledger.must(err)
		m.number = number
		got = append(got, m)
		p = p[n:]
	}
	l.ledger.claimed(ch, got, after)
	if l.rng.IntN(1000) < c.plan.breakOff {
		l.ledger.giveBack(ch, got)
		c.Unwritten(&l.run, l.rng.IntN(len(l.run.Head)+len(l.run.Bytes)))
		l.run.Release()
		l.leave(c, ch)
		l.subscribe(c.plan)
		return
	}
	l.run.Release()
	for _, m := range got {
		l.answer(ch, c, m)
	}
}

func (l *stressLoop) answer(ch *Channel, c *stressConsumer, m stressMsg) {
	one := []stressMsg{m}
	var err error
	switch k, p := l.rng.IntN(1000), c.plan; {
	case k < p.requeue:
		l.ledger.giveBack(ch, one)
		err = c.Req(m.id[:], 0, l.now)
	case k < p.requeue+p.later:
		l.ledger.giveBack(ch, one)
		err = c.Req(m.id[:], time.Duration(l.rng.IntN(20))*time.Millisecond, l.now)
	case k < p.requeue+p.later+p.forget:
		c.held = append(c.held, m)
	default:
		if k < p.requeue+p.later+p.forget+p.touch {
			err = c.Touch(m.id[:], l.now)
		}
		if err == nil {
			l.ledger.finished(ch, m)
			err = c.Fin(m.id[:], Now())
		}
	}
	if err != nil {
		l.ledger.refused(ch, m, err)
	}
}
