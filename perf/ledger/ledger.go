package ledger

import (
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a run.
type Config struct {
	Bodies    Bodies
	Producers int      // keys have Producer below this
	Channels  []string // every message is owed to each of them
	// MsgTimeout is the message timeout of every consumer: only after it a held message may come again with cause timeout. The broker's
	// clock starts when it writes, ours when the rig reads, so Slack is allowed for the way between; 0 is 250 ms, the time the stock daemon
	// may keep a frame in its output buffer.
	MsgTimeout time.Duration
	Slack      time.Duration
}

// Ledger is the book of one run. All methods may be called from any goroutine, except where they say otherwise.
type Ledger struct {
	config    Config
	start     time.Time
	epoch     atomic.Uint32 // number of restarts; changes only while no client runs
	producers []producer
	channels  []*Channel
}

// New opens the book; its clock starts now.
func New(config Config) *Ledger {
	if config.Slack == 0 {
		config.Slack = 250 * time.Millisecond
	}
	l := &Ledger{config: config, start: time.Now(), producers: make([]producer, config.Producers)}
	for _, name := range config.Channels {
		l.channels = append(l.channels, &Channel{name: name, ledger: l, slots: make([]chunks[slot], config.Producers)})
	}
	return l
}

// Channel returns the book of the channel of that name; it must be one of the Config.
func (l *Ledger) Channel(name string) *Channel {
	for _, channel := range l.channels {
		if channel.name == name {
			return channel
		}
	}
	panic("BUG: ledger has no channel " + name)
}

// Restarted says that the broker died and that nothing it sent will be read any more: every client of it has ended.
func (l *Ledger) Restarted() { l.epoch.Add(1) }

// SetMsgTimeout replaces Config.MsgTimeout and Config.Slack. Call it while no client runs.
func (l *Ledger) SetMsgTimeout(timeout, slack time.Duration) {
	l.config.MsgTimeout, l.config.Slack = timeout, slack
}

// tick is the unit of all stored times, counted from the start of the run: a uint32 lasts 59 hours. 0 means never.
const tick = 50 * time.Microsecond

func ticks(d time.Duration) uint32 { return uint32(d / tick) }

// now never returns 0.
func (l *Ledger) now() uint32 { return ticks(time.Since(l.start)) + 1 }

// Elapsed is the time since the run began, the clock of every Offender.
func (l *Ledger) Elapsed() time.Duration { return time.Since(l.start) }

func (l *Ledger) since(t uint32) time.Duration { return time.Duration(t-1) * tick }

// producer is what is known about the messages of one producer.
type producer struct {
	mu   sync.Mutex
	sent chunks[sent]
}

type sent struct {
	at    uint32 // when Sent was called
	acked uint32 // when Acked was called, 0 = never
	due   uint32 // not to be delivered before, 0 = at once
}

// Sent enters the next message of a producer, which will be delivered no earlier than delay from now (DPUB), and returns its key. Call
// it before the first byte is written.
func (l *Ledger) Sent(producer uint32, delay time.Duration) Key {
	now := l.now()
	entry := sent{at: now}
	if delay > 0 {
		entry.due = now + ticks(delay)
	}
	p := &l.producers[producer]
	p.mu.Lock()
	defer p.mu.Unlock()
	counter := p.sent.len
	*p.sent.grow(counter) = entry
	return Key{Producer: producer, Counter: counter}
}

// Body appends the body of key.
func (l *Ledger) Body(dst []byte, key Key) []byte { return l.config.Bodies.Append(dst, key) }

// Acked says that the broker answered OK for key.
func (l *Ledger) Acked(key Key) {
	now := l.now()
	p := &l.producers[key.Producer]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent.at(key.Counter).acked = now
}

// lookup returns a copy of the entry of key; false if it was never sent.
func (l *Ledger) lookup(key Key) (sent, bool) {
	if int64(key.Producer) >= int64(len(l.producers)) {
		return sent{}, false
	}
	p := &l.producers[key.Producer]
	p.mu.Lock()
	defer p.mu.Unlock()
	if key.Counter >= p.sent.len {
		return sent{}, false
	}
	return *p.sent.at(key.Counter), true
}

// chunks is a growing array whose elements never move.
type chunks[T any] struct {
	len  uint32
	list []*[chunkLen]T
}

const chunkLen = 4096

// grow makes room up to and including i and returns element i.
func (c *chunks[T]) grow(i uint32) *T {
	for int(i/chunkLen) >= len(c.list) {
		c.list = append(c.list, new([chunkLen]T))
	}
	c.len = max(c.len, i+1)
	return c.at(i)
}

func (c *chunks[T]) at(i uint32) *T { return &c.list[i/chunkLen][i%chunkLen] }
