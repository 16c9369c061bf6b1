package loop

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
)

// authKind is what an authQuery asks for.
type authKind uint8

const (
	authFetch authKind = iota // an auth server's word
	authMatch                 // whether grants, which are too many for a loop, allow a command
)

// authQuery is one question of one connection. It belongs to the pool from submit until its letter, then to the loop.
type authQuery struct {
	c      *conn
	kind   authKind
	client authClient

	topic, channel string      // of the command, for authMatch
	grants         *authGrants // what to match; of authFetch the answer
	allowed        bool
	err            error

	ctx    context.Context
	cancel context.CancelFunc // any goroutine: nobody waits for the answer any more

	answered bool // loop only
}

// authWorkers bounds the questions that are open at auth servers at one time. More wait for their turn; there is at most
// one per connection.
const authWorkers = 64

// authPool asks auth servers on goroutines that live only while there is something to ask. An auth server that is slow
// or down delays those who wait for its word, nobody else.
type authPool struct {
	asker *authAsker
	log   LogFunc
	ctx   context.Context
	stop  context.CancelFunc

	mu      sync.Mutex
	queue   []*authQuery
	running int
	wg      sync.WaitGroup
}

func newAuthPool(opt AuthOptions, log LogFunc) *authPool {
	p := &authPool{asker: newAuthAsker(opt), log: log}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

func (p *authPool) submit(q *authQuery) {
	q.ctx, q.cancel = context.WithCancel(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, q)
	if p.running < authWorkers {
		p.running++
		p.wg.Add(1)
		go p.work()
	}
}

// close ends every question and returns when no goroutine is left.
func (p *authPool) close() {
	p.stop()
	p.wg.Wait()
	p.asker.close()
}

func (p *authPool) work() {
	defer p.wg.Done()
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.queue = nil
			p.running--
			p.mu.Unlock()
			return
		}
		q := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
		p.answer(q)
		q.cancel()
		q.c.l.mail.post(letter{kind: letterAuth, auth: q})
	}
}

func (p *authPool) answer(q *authQuery) {
	defer func() {
		if r := recover(); r != nil {
			p.log(LogError, "panic while asking an auth server: %v\n%s", r, debug.Stack())
			q.err = fmt.Errorf("internal error")
		}
	}()
	if q.err = q.ctx.Err(); q.err != nil {
		return // the connection is gone
	}
	if q.kind == authMatch {
		q.allowed = q.grants.allow(q.topic, q.channel)
		return
	}
	q.grants, q.err = p.asker.ask(q.ctx, &q.client)
}
