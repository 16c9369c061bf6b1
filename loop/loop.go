package loop

import (
	"errors"
	"io"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// loop is one event loop: one goroutine (the engine's) that owns connections, their leases, one wheel, one pool of
// blocks. Other goroutines reach it through its mailbox only.
//
// A turn is one call of the engine: one read of one connection, or the letters of the mailbox. It reads the clock once,
// and ends with the deliveries that became possible.
type loop struct {
	idx    int
	srv    *Server
	opt    *Options
	log    LogFunc
	broker *fanout.Broker
	engine engine
	mail   mailbox
	load   atomic.Int64 // connections, enrolling ones included: where to place the next

	// Loop goroutine only.
	now      int64 // clock of this turn
	wheel    wheel
	timer    *time.Timer // rings for the wheel
	timerAt  int64       // when; 0: not set
	blocks   blockPool
	all      connList
	waiting  connList // their next reply waits for an Ack
	draining bool
	culprit  *conn // on whose behalf something runs: who is closed if that panics

	topics      map[string]*topicEntry
	topicsSweep int
	channels    map[*fanout.Channel]*subscribers
	dirty       []*subscribers // to be served at the end of this turn
	unfinished  []*subscribers // to be served after the input that waits
	deliverLeft int            // bytes of this turn's deliveries
	decoded     int            // what filters gave since the last resumed, in their measure
	pausing     []*conn        // to go on with their input then
	owing       []*conn        // to go on encoding their output then
	yielding    bool           // the engine will call resumed
	mailWaits   bool           // the mail is read then
	mailStreak  int            // turns of mail since the last read
	batch       batch
	scratch     fanout.Scratch
	probedAt    atomic.Int64 // when the loop was last asked for an answer; 0 = it has answered

	// Memory for one event, used over and over.
	cmd     codec.Command
	run     fanout.Run
	stage   []byte // replies of the connection at hand
	frame   []byte
	json    []byte
	plain   []byte // decoded by a filter
	encoded []byte
	chained chainScratch

	encodeCost int // of this turn, see encodeTurn
	deflaters  deflaters
	iov        [3][]byte
	one        [1][]byte
}

func newLoop(srv *Server, idx int, e engine) *loop {
	l := &loop{
		idx: idx, srv: srv, opt: &srv.opt, log: srv.opt.Log, broker: srv.broker, engine: e,
		all: connList{kind: linkAll}, waiting: connList{kind: linkWaiting},
		topics:      make(map[string]*topicEntry),
		topicsSweep: topicsSweepMin,
		channels:    make(map[*fanout.Channel]*subscribers),
		batch:       batch{seq: 1},
		stage:       make([]byte, 0, outputMax),
	}
	l.mail.ring = e.ring
	l.wheel.start(fanout.Now())
	l.timer = time.AfterFunc(time.Hour, func() { l.mail.raise(flagTimer) })
	l.timer.Stop()
	return l
}

// opened is the first event of a connection.
func (l *loop) opened(c *conn, s socket) {
	l.now = fanout.Now()
	c.sock, c.fd = s, s.descriptor()
	l.all.pushBack(c)
	if l.draining {
		l.closeConn(c)
		return
	}
	if d := l.opt.MagicTimeout; d > 0 {
		c.readBy = l.now + int64(d)
	}
	l.settleConn(c)
	l.endTurn()
}

func (l *loop) readable(c *conn, p []byte) {
	if c.closed {
		return
	}
	l.now = fanout.Now()
	l.mailStreak = 0
	l.read(c, p)
	l.settleConn(c)
	l.endTurn()
}

func (l *loop) read(c *conn, p []byte) {
	defer l.contain()
	l.culprit = c
	c.receive(p)
}

// closed: the peer is gone, or at least will send no more. The engine closes the descriptor when this returns; a
// connection that owes answers for which something is still awaited lives on with a duplicate.
func (l *loop) closed(c *conn, err error) {
	if c.closed {
		return
	}
	l.now = fanout.Now()
	if errors.Is(err, io.EOF) {
		l.halfClosed(c)
		l.settleConn(c)
	} else {
		c.dead = true
	}
	if !c.closed && !c.dead {
		l.detach(c)
	}
	if c.dead {
		l.closeConn(c)
	}
	l.endTurn()
}

// detach moves a connection that still owes answers off the engine, whose descriptor is about to be closed.
func (l *loop) detach(c *conn) {
	sock, err := duplicate(c.fd)
	if err != nil {
		l.log(LogWarn, "CLIENT(%s): %s", c.remote, err)
		c.dead = true
		return
	}
	c.sock, c.fd = sock, sock.descriptor()
}

func (l *loop) halfClosed(c *conn) {
	defer l.contain()
	l.culprit = c
	c.peerClosed()
}

// mailStreakMax bounds how many turns of mail the loop has before it looks at its sockets: the engine may go on ringing
// without doing so while other loops keep it busy.
const mailStreakMax = 32

// rung reads the mail.
func (l *loop) rung() {
	if l.mailStreak++; l.mailStreak > mailStreakMax {
		l.mailWaits = true
		l.yield()
	}
	if l.mailWaits {
		return
	}
	l.now = fanout.Now()
	l.readMail()
	l.endTurn()
}

// yield asks for resumed, once.
func (l *loop) yield() {
	if !l.yielding {
		l.yielding = true
		l.engine.yield()
	}
}

// resumed takes up what was left to give waiting input its turn.
func (l *loop) resumed() {
	l.now = fanout.Now()
	l.yielding, l.mailStreak = false, 0
	for _, s := range l.unfinished {
		l.deliverLater(s)
	}
	clear(l.unfinished)
	l.unfinished = l.unfinished[:0]
	pausing := l.pausing
	l.pausing = nil
	l.decoded = 0
	for i, c := range pausing {
		if l.decoded >= filterTurn { // all of them together have what one has alone
			l.pausing = append(pausing[i:len(pausing):len(pausing)], l.pausing...)
			l.yield()
			break
		}
		if !c.closed {
			c.resume(pauseTurn)
			l.settleConn(c)
		}
	}
	owing := l.owing
	l.owing = nil
	for _, c := range owing {
		c.owing = false
		l.encodeOn(c)
		l.settleConn(c)
	}
	if l.mailWaits {
		l.mailWaits = false
		l.readMail()
	}
	l.endTurn()
}

func (l *loop) readMail() {
	letters, f := l.mail.take()
	if f&flagProbe != 0 {
		l.answerProbe()
	}
	if f&flagDrain != 0 { // first, so that an answer to a letter tells that it is done
		l.drain()
	}
	for i := range letters {
		l.open(&letters[i])
	}
	l.mail.done(letters)
	if f&flagAcks != 0 {
		l.acksSettled()
	}
	if f&flagTimer != 0 {
		l.timerAt = 0
		l.wheel.advance(l.now, l.fire)
	}
}

func (l *loop) open(x *letter) {
	defer l.contain()
	l.culprit = nil
	switch x.kind {
	case letterWake:
		if s := l.channels[x.ch]; s != nil {
			l.deliverLater(s)
		}
	case letterChanged:
		if s := l.channels[x.ch]; s != nil {
			l.channelChanged(s)
		}
	case letterGone:
		if s := l.channels[x.ch]; s != nil {
			for c := s.members.first; c != nil; c = s.members.first {
				l.culprit = c
				l.closeConn(c)
			}
		}
	case letterSlow:
		if c := x.job.c; !c.closed {
			l.culprit = c
			c.slowDone(x.job)
			c.settle()
		}
	case letterAuth:
		if c := x.auth.c; !c.closed {
			l.culprit = c
			x.auth.answered = true
			c.settle()
		}
	case letterHandshake:
		if c := x.hs.c; !c.closed {
			l.culprit = c
			c.handshakeNews(x.hs)
			c.settle()
		}
	case letterStats:
		l.stats(x.req)
	}
}

func (l *loop) fire(n *timerNode) {
	defer l.contain()
	l.culprit = n.owner
	n.owner.onTimer()
	n.owner.settle()
}

// settleConn is conn.settle with its panics contained.
func (l *loop) settleConn(c *conn) {
	if c.closed {
		return
	}
	defer l.contain()
	l.culprit = c
	c.settle()
}

// acksSettled looks through the connections whose replies wait.
func (l *loop) acksSettled() {
	for n := l.waiting.size; n > 0 && l.waiting.first != nil; n-- {
		c := l.waiting.first
		l.waiting.remove(c)
		l.settleConn(c)
	}
}

// endTurn delivers and makes sure that the next deadline is rung for.
func (l *loop) endTurn() {
	if len(l.dirty) > 0 {
		l.deliver()
	}
	l.encodeCost = 0
	if at := l.wheel.next(); at != 0 && (l.timerAt == 0 || at < l.timerAt) {
		l.timerAt = at
		l.timer.Reset(max(0, time.Duration(at-l.now)))
	}
}

// closeConn ends a connection at once: no frame, its messages go back. Harmless on a closed one.
func (l *loop) closeConn(c *conn) {
	if c.closed {
		return
	}
	if c.ending && !c.dead {
		c.farewell()
		discardInput(c.fd)
	}
	c.closed = true
	if c.asking() {
		c.auth.query.cancel()
	}
	c.dropFilter()
	l.wheel.disarm(&c.timer)
	l.waiting.remove(c)
	l.all.remove(c)
	l.load.Add(-1)
	l.srv.open.Add(-1)
	c.sock.close()
	c.leaveChannel()
	c.dropBuffers()
	l.log(LogInfo, "CLIENT(%s): closed", c.remote)
}

// drain closes every connection, as stock does on exit: no frame.
func (l *loop) drain() {
	l.draining = true
	for c := l.all.first; c != nil; c = l.all.first {
		l.abandon(c)
	}
}

// contain is deferred around everything that works for a client: a panic costs that client its connection, not the
// process its life. What a panic could leave half done is reset.
func (l *loop) contain() {
	if r := recover(); r != nil {
		l.panicked(r)
	}
}

func (l *loop) panicked(r any) {
	l.srv.panics.Add(1)
	c := l.culprit
	l.culprit = nil
	who := "event loop"
	if c != nil {
		who = "CLIENT(" + c.remote + ")"
	}
	l.log(LogError, "%s: panic: %v\n%s", who, r, debug.Stack())
	l.resetBatch()
	l.stage = l.stage[:0]
	clear(l.iov[:])
	if c != nil {
		l.abandon(c)
	}
}

// abandon is closeConn for a connection whose state may be broken.
func (l *loop) abandon(c *conn) {
	defer func() {
		if r := recover(); r != nil {
			l.srv.panics.Add(1)
			l.log(LogError, "CLIENT(%s): panic while closing: %v\n%s", c.remote, r, debug.Stack())
		}
	}()
	c.dead = true
	l.closeConn(c)
}
