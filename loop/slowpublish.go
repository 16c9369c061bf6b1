package loop

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// A loop never waits for the disk. Publishes for which no warm segment is at hand are copied and handed to one of a few
// goroutines that may wait. The connection is not read meanwhile, so it can have at most one read's worth there, and
// what it publishes behind them in that read joins them: the order of a connection's publishes is kept.

// slowItem is one group of publishes to one topic that share their answer.
type slowItem struct {
	kind   codec.Kind
	topic  *fanout.Topic
	name   string
	bodies [][]byte // own copies
	delay  time.Duration

	ack  fanout.Ack // written by the goroutine before the job comes back
	err  error
	done bool // owned by the loop: the job came back
}

// slowJob are the items of one read of one connection, in order. It belongs to the loop until it is submitted, then to
// the goroutine, and to the loop again with the letter that brings it back.
type slowJob struct {
	c         *conn
	items     []*slowItem
	submitted bool
}

// publishSlowly makes publishes part of the connection's job. Bodies are copied.
func (c *conn) publishSlowly(kind codec.Kind, e *topicEntry, bodies [][]byte) *slowItem {
	size := 0
	for _, body := range bodies {
		size += len(body)
	}
	memory := make([]byte, 0, size)
	copies := make([][]byte, len(bodies))
	for i, body := range bodies {
		start := len(memory)
		memory = append(memory, body...)
		copies[i] = memory[start:len(memory):len(memory)]
	}
	item := &slowItem{kind: kind, topic: e.topic, name: e.name, bodies: copies}
	if c.job == nil {
		c.job = &slowJob{c: c}
	}
	c.job.items = append(c.job.items, item)
	return item
}

func (c *conn) submitJob() {
	c.job.submitted = true
	c.pause(pausePublish)
	c.l.srv.slow.submit(c.job)
}

// slowDone takes a job back. settle follows, which sends the answers.
func (c *conn) slowDone(job *slowJob) {
	for _, item := range job.items {
		item.done = true
		if item.err == nil {
			c.countPublished(item.name, len(item.bodies))
		}
	}
	c.job = nil
	c.resume(pausePublish)
}

// slowPool runs jobs on at most limit goroutines, which live only while there are jobs. Queued jobs are bounded by the
// number of connections.
type slowPool struct {
	broker *fanout.Broker
	log    LogFunc
	limit  int

	mu      sync.Mutex
	queue   []*slowJob
	running int
	wg      sync.WaitGroup
}

func (p *slowPool) submit(job *slowJob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, job)
	if p.running < p.limit {
		p.running++
		p.wg.Add(1)
		go p.work()
	}
}

// wait returns when all jobs submitted before are done.
func (p *slowPool) wait() { p.wg.Wait() }

func (p *slowPool) work() {
	defer p.wg.Done()
	debug.SetPanicOnFault(true) // for the goroutine's life; publish recovers
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.queue = nil
			p.running--
			p.mu.Unlock()
			return
		}
		job := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
		p.run(job)
		job.c.l.mail.post(letter{kind: letterSlow, job: job})
	}
}

// run publishes the items of a job in order, up to the first failure: what follows it would not have been executed.
func (p *slowPool) run(job *slowJob) {
	for i, item := range job.items {
		if item.ack, item.err = p.publish(item); item.err == nil {
			continue
		}
		for _, rest := range job.items[i+1:] {
			rest.err = item.err
		}
		return
	}
}

func (p *slowPool) publish(item *slowItem) (ack fanout.Ack, err error) {
	defer func() {
		if r := recover(); r != nil {
			p.log(LogError, "panic while publishing to %s: %v\n%s", item.name, r, debug.Stack())
			err = fmt.Errorf("internal error")
		}
	}()
	if ack, err = item.publishWait(); errors.Is(err, fanout.ErrExiting) && item.topic.Deleted() {
		t, lookup := p.broker.Topic([]byte(item.name))
		if lookup != nil || t == item.topic {
			return ack, err
		}
		item.topic = t
		return item.publishWait()
	}
	return ack, err
}

func (item *slowItem) publishWait() (fanout.Ack, error) {
	if item.delay > 0 {
		return item.topic.PublishDeferredWait(item.bodies[0], item.delay)
	}
	return item.topic.PublishWait(item.bodies)
}
