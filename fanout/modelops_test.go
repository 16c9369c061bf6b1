package fanout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// op is one step of a random list. Its arguments are taken modulo what there is, so a list stays valid when steps are taken out of it.
type op struct {
	kind    opKind
	a, b, c uint32
}

type opKind int

const (
	opPub opKind = iota
	opDpub
	opSub
	opClose
	opBreak // the connection is lost in the middle of a run
	opRdy
	opClaim
	opFin
	opFinAll
	opReq
	opReqLater
	opTouch
	opExpire
	opAdvance
	opPark
	opStartClose
	opPauseChannel
	opPauseTopic
	opEmptyChannel
	opEmptyTopic
	opDeleteChannel
	opDeleteTopic
	opCreateChannel
	opKill
	opStop
	opKinds
)

// opWeights says how often a kind comes, by kind.
var opWeights = [opKinds]int{14, 5, 6, 3, 2, 6, 20, 12, 8, 5, 4, 4, 6, 8, 6, 1, 3, 3, 1, 1, 1, 1, 2, 2, 1}

var opNames = [opKinds]string{
	"pub", "dpub", "sub", "close", "break", "rdy", "claim", "fin", "finAll", "req", "reqLater", "touch", "expire", "advance", "park", "startClose",
	"pauseChannel", "pauseTopic", "emptyChannel", "emptyTopic", "deleteChannel", "deleteTopic", "createChannel", "kill", "stop",
}

func (o op) String() string { return fmt.Sprintf("{%s %d %d %d}", opNames[o.kind], o.a, o.b, o.c) }

func randomOps(seed uint64, n int) []op {
	rng := rand.New(rand.NewPCG(seed, 1))
	sum := 0
	for _, w := range opWeights {
		sum += w
	}
	list := make([]op, n)
	for i := range list {
		at := rng.IntN(sum)
		k := opKind(0)
		for ; at >= opWeights[k]; k++ {
			at -= opWeights[k]
		}
		list[i] = op{k, rng.Uint32N(1 << 16), rng.Uint32N(1 << 16), rng.Uint32N(1 << 16)}
	}
	return list
}

const (
	simMaxTimeout = 40 * time.Second
	simTopics     = 2
)

var (
	simChannels = []string{"a", "b", "c#ephemeral"}
	simTimeouts = []time.Duration{5 * time.Second, 20 * time.Second}
)

// sim drives a broker and the model side by side. It runs in a bubble of fake time, where after settle everything that the broker's
// goroutines can do is done.
type sim struct {
	disk   mmapq.Disk
	store  mmapq.Options
	broker *Broker
	warned []string

	topics    []*refTopic // by index, nil = does not exist
	consumers []*simConsumer
	parked    map[*Channel]bool // hungry: a wake must follow when something becomes claimable
	gone      map[*Channel]bool
	published int
	bodies    map[int][]byte
	ids       map[string]*refMsg // of one topic's life each, "topic/id"

	mu    sync.Mutex
	woken map[*Channel]bool // also by the broker's goroutines
}

type simConsumer struct {
	*Consumer
	ref     *refConsumer
	scratch Scratch
}

func newSim(disk mmapq.Disk, store mmapq.Options) *sim {
	return &sim{disk: disk, store: store, topics: make([]*refTopic, simTopics), bodies: map[int][]byte{}, ids: map[string]*refMsg{}}
}

func (s *sim) open() (err error) {
	s.parked, s.woken, s.gone, s.consumers = map[*Channel]bool{}, map[*Channel]bool{}, map[*Channel]bool{}, nil
	s.broker, err = Open(s.disk, s.store, Options{
		MsgTimeout: simTimeouts[0], MaxMsgTimeout: simMaxTimeout, MemQueueSize: 1 << 40, keep: eager,
		Warn: func(format string, args ...any) { s.warned = append(s.warned, fmt.Sprintf(format, args...)) },
	})
	if err == nil {
		s.broker.AttachLoop(0, s)
	}
	return err
}

func (s *sim) WakeChannel(ch *Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken[ch] = true
}

func (s *sim) ChannelChanged(*Channel) {}
func (s *sim) ChannelGone(ch *Channel) { s.gone[ch] = true }
func (s *sim) AcksSettled()            {}

func (s *sim) topicName(i int) string { return fmt.Sprint("t", i) }

// topic returns the model and the real topic of an op, creating both.
func (s *sim) topic(a uint32) (*refTopic, *Topic, error) {
	i := int(a) % simTopics
	if s.topics[i] == nil {
		s.topics[i] = newRefTopic(s.topicName(i))
	}
	t, err := s.broker.Topic([]byte(s.topicName(i)))
	return s.topics[i], t, err
}

func (s *sim) existing(a uint32) (*refTopic, *Topic) {
	i := int(a) % simTopics
	if s.topics[i] == nil {
		return nil, nil
	}
	return s.topics[i], s.broker.LookupTopic(s.topicName(i))
}

func (s *sim) channel(o op) (*refChannel, *Channel) {
	rt, t := s.existing(o.a)
	if rt == nil {
		return nil, nil
	}
	name := simChannels[int(o.b)%len(simChannels)]
	return rt.channels[name], t.LookupChannel(name)
}

func (s *sim) consumer(a uint32) *simConsumer {
	if len(s.consumers) == 0 {
		return nil
	}
	return s.consumers[int(a)%len(s.consumers)]
}

// message makes the next message of rt; class chooses its size, so that segments of 64 KiB roll and some bodies need one of their own.
func (s *sim) message(class uint32, due int64) *refMsg {
	size := 40
	switch {
	case class%97 == 0:
		size = 100 << 10
	case class%3 == 0:
		size = 3000 + int(class%2000)
	}
	m := &refMsg{number: s.published, seq: s.published, size: size, due: due}
	s.published++
	b := bytes.Repeat([]byte{'a' + byte(m.number%26)}, size)
	copy(b, strconv.Itoa(m.number)+"|")
	s.bodies[m.number] = b
	return m
}

// settle lets everything happen that is due now.
func (s *sim) settle() {
	synctest.Wait()
	now := Now()
	for _, rt := range s.topics {
		if rt != nil {
			for _, ch := range rt.channels {
				ch.fall(now)
			}
		}
	}
	for _, c := range slices.Clone(s.consumers) {
		if s.gone[c.ch] {
			s.closeConsumer(c) // what a loop does
		}
	}
}

func (s *sim) closeConsumer(c *simConsumer) {
	now := Now()
	ch := c.ref.ch
	c.Close(now)
	c.ref.close(now)
	s.consumers = slices.DeleteFunc(s.consumers, func(x *simConsumer) bool { return x == c })
	if strings.HasSuffix(ch.name, "#ephemeral") && len(ch.consumers) == 0 && ch.t.channels[ch.name] == ch {
		delete(ch.t.channels, ch.name)
	}
}

func (s *sim) publish(o op) error {
	rt, t, err := s.topic(o.a)
	if err != nil {
		return err
	}
	var list []*refMsg
	var bodies [][]byte
	for i := range 1 + o.b%9 {
		m := s.message(o.c+i*31, 0)
		list, bodies = append(list, m), append(bodies, s.bodies[m.number])
	}
	done := 0
	if o.c%2 == 0 {
		if _, done, err = t.Publish(bodies); errors.Is(err, ErrWouldBlock) {
			err = nil
		}
	}
	if err == nil {
		_, err = t.PublishWait(bodies[done:])
	}
	for _, m := range list {
		rt.publish(m)
	}
	return err
}

func (s *sim) publishDeferred(o op) error {
	rt, t, err := s.topic(o.a)
	if err != nil {
		return err
	}
	delay := delays[int(o.b)%len(delays)]
	m := s.message(o.c, s.broker.dueMillis(delay)*int64(time.Millisecond))
	_, err = t.PublishDeferred(s.bodies[m.number], delay)
	if errors.Is(err, ErrWouldBlock) {
		_, err = t.PublishDeferredWait(s.bodies[m.number], delay)
	}
	rt.publish(m)
	return err
}

var delays = []time.Duration{time.Microsecond, 300 * time.Millisecond, 700 * time.Millisecond, 3 * time.Second, 30 * time.Minute}

func (s *sim) subscribe(o op) error {
	if len(s.consumers) >= 8 {
		return nil
	}
	rt, t, err := s.topic(o.a)
	if err != nil {
		return err
	}
	name := simChannels[int(o.b)%len(simChannels)]
	ch, err := t.Channel([]byte(name))
	if err != nil {
		return err
	}
	timeout, touch := simTimeouts[int(o.c)%len(simTimeouts)], simTimeouts[int(o.c/2)%len(simTimeouts)]
	c, err := ch.AddConsumer(0, ConsumerOptions{MsgTimeout: timeout, TouchTimeout: touch})
	if err != nil {
		return err
	}
	ref := &refConsumer{ch: rt.channel(name), timeout: int64(timeout), touch: int64(touch), rdy: int(o.c % 30)}
	ref.ch.consumers = append(ref.ch.consumers, ref)
	c.SetReady(int64(ref.rdy))
	s.consumers = append(s.consumers, &simConsumer{Consumer: c, ref: ref})
	return nil
}

// claim claims once and holds what comes against the model.
func (s *sim) claim(c *simConsumer, run *Run) error {
	now := Now()
	credit := c.ref.credit()
	if got := c.Credit(); got != credit {
		return fmt.Errorf("credit %d, want %d", got, credit)
	}
	if !c.Claim(now, &c.scratch, run) {
		if credit > 0 && c.ref.ch.claimable() {
			return fmt.Errorf("channel %s: nothing claimed, %d waiting and %d put back", c.ref.ch.name, len(c.ref.ch.queue), len(c.ref.ch.side))
		}
		return nil
	}
	p := append(slices.Clone(run.Head), run.Bytes...)
	n := 0
	for ; len(p) > 0; n++ {
		size := int(binary.BigEndian.Uint32(p)) + 4
		if err := s.check(c, p[:size], now); err != nil {
			return err
		}
		p = p[size:]
	}
	if n != run.N || n > credit {
		return fmt.Errorf("%d frames in a run of %d, credit %d", n, run.N, credit)
	}
	return nil
}

// check holds one delivered frame against the model.
func (s *sim) check(c *simConsumer, frame []byte, now int64) error {
	if !c.ref.ch.claimable() {
		return fmt.Errorf("channel %s: delivered %.20q, nothing was claimable", c.ref.ch.name, frame[34:])
	}
	m, attempts := c.ref.ch.deliver(c.ref, now)
	if !bytes.Equal(frame[34:], s.bodies[m.number]) {
		return fmt.Errorf("channel %s: delivered %.20q, want number %d (of %d bytes)", c.ref.ch.name, frame[34:], m.number, m.size)
	}
	if got := int(attemptsOf(frame)); got != attempts || got < c.ref.ch.highest[m] {
		return fmt.Errorf("channel %s: number %d came with attempts %d, want %d; %d was seen", c.ref.ch.name, m.number, got, attempts, c.ref.ch.highest[m])
	}
	id := string(frame[18:34])
	if m.id == "" {
		key := c.ref.ch.t.name + "/" + id
		if other := s.ids[key]; other != nil {
			return fmt.Errorf("number %d has the id %s of number %d", m.number, id, other.number)
		}
		m.id, s.ids[key] = id, m
	}
	if m.id != id {
		return fmt.Errorf("number %d came with id %s, before with %s", m.number, id, m.id)
	}
	return nil
}

// someID picks an id for FIN and its kin: mostly one in flight at c, else of another consumer, of any message, or nonsense.
func (s *sim) someID(c *simConsumer, o op) string {
	if n := len(c.ref.held); n > 0 && o.b%8 != 0 {
		return c.ref.held[int(o.c)%n].m.id
	}
	for _, other := range c.ref.ch.consumers {
		if n := len(other.held); n > 0 && o.c%2 == 0 {
			return other.held[int(o.b)%n].m.id
		}
	}
	prefix := c.ref.ch.t.name + "/"
	var ids []string
	for key := range s.ids {
		if strings.HasPrefix(key, prefix) {
			ids = append(ids, key[len(prefix):])
		}
	}
	slices.Sort(ids)
	return append(ids, "0123456789abcdef", "no such message!")[int(o.c)%(len(ids)+2)]
}

// answer carries out FIN, REQ or TOUCH.
func (s *sim) answer(o op, c *simConsumer, id string) error {
	now := Now()
	want := c.ref.outcome(id)
	h := c.ref.find(id)
	var got error
	switch o.kind {
	case opFin, opFinAll:
		got = c.Fin([]byte(id), Now())
		if h != nil {
			c.ref.drop(h)
		}
	case opReq, opReqLater:
		delay := time.Duration(0)
		if o.kind == opReqLater {
			delay = delays[int(o.a)%len(delays)]
		}
		got = c.Req([]byte(id), delay, now)
		if h != nil {
			c.ref.drop(h)
			c.ref.ch.requeues++
			c.ref.ch.requeue(h.m, delay, now)
		}
	case opTouch:
		got = c.Touch([]byte(id), now)
		if h != nil {
			h.exc = true
			h.deadline = min(now+c.ref.touch, h.delivered+int64(simMaxTimeout))
		}
	}
	if !errors.Is(got, want) || (want == nil) != (got == nil) {
		return fmt.Errorf("%s %s: %v, want %v", opNames[o.kind], id, got, want)
	}
	return nil
}
