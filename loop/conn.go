package loop

import (
	"net"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// conn is one client connection: its input and output (this file, outbound.go, reply.go), its deadlines (deadlines.go)
// and its session (session.go and the files named after commands).
//
// Everything in it belongs to the goroutine of its loop, except the fields set before it is enrolled, which never
// change. Other goroutines hold pointers to it only to hand them back through the mailbox.
//
// An idle connection owns no buffer: blocks are borrowed from the loop while something is unfinished.
type conn struct {
	// Set before enrolling.
	l           *loop
	remote      string // address of the peer
	local       net.Addr
	connectedAt time.Time

	sock  socket
	fd    int
	links [linkKinds]connLink
	timer timerNode // the earliest of all deadlines of the connection; may be early, never late

	closed bool // the descriptor is given up: nothing may touch it
	dead   bool // a write failed or a deadline passed: close at the end of this event
	ending bool // input is over; close once all output is out
	full   bool // decoding stopped because the client does not take its replies
	acked  bool // FIN, REQ, TOUCH, RDY or CLS since the last EndBatch
	paused pauseReason

	// Input.
	magic    [4]byte
	magicLen uint8
	pol      codec.Policy
	split    codec.Splitter
	carry    []byte // block: the start of an unfinished command
	parked   []byte // block: input that was read but not decoded yet
	wire     []byte // block: the same, still encoded by filter
	filter   Filter // nil: bytes on the wire are the protocol's
	up       *upgrade
	tls      *TLSInfo // nil without TLS
	compress compression

	// Output. Order on the wire: wireOut, the rest of held, then control; see filterout.go for filters.
	replies     replyQueue
	held        *heldRun // a run that could not be written whole
	control     []byte   // block: replies and heartbeats that could not be written
	controlSent int      // bytes of control that are out
	wireOut     []byte   // block: encoded by filter
	wireSent    int      // bytes of wireOut that are out
	owing       bool     // on the loop's list: it goes on encoding in the next turn
	beatWaits   bool     // a heartbeat is in control
	retryStep   uint8
	retryAt     int64 // next attempt to write; 0: nothing is unsent
	movedAt     int64 // when the peer last took a byte, since something is unsent

	// Deadlines, in nanoseconds of the loop's clock; 0: none.
	interval  int64 // read deadline is twice, write deadline once this; 0 none
	beatEvery int64 // heartbeat interval; 0 none
	beatAt    int64
	readBy    int64

	// Session.
	id         *codec.Identify // nil before IDENTIFY
	msgTimeout time.Duration   // of deliveries: from the first IDENTIFY
	sampleRate int32           // likewise
	cons       *fanout.Consumer
	subs       *subscribers // nil unless subscribed
	job        *slowJob     // publishes that wait for the disk
	auth       *clientAuth  // nil before AUTH
	published  map[string]uint64
}

// pauseReason says why a connection is not read. It is read when no reason is left.
type pauseReason uint8

const (
	pausePublish pauseReason = 1 << iota // publishes wait for the disk
	pauseOutput                          // the client does not take its replies
	pauseTurn                            // it had its share of this turn
	pauseAuth                            // an auth server is being asked
	pauseUpgrade                         // the upgrade has enough to work on
)

func newConn(l *loop, remote string, at time.Time) *conn {
	c := &conn{l: l, remote: remote, connectedAt: at}
	c.timer.owner = c
	return c
}

// pause adds a reason not to read.
func (c *conn) pause(why pauseReason) {
	before := c.paused
	c.paused |= why
	if before == 0 {
		c.readBy = 0 // it is us who do not read
		c.setReading(false)
	}
}

// resume takes a reason away. Input parked meanwhile is decoded by settle.
func (c *conn) resume(why pauseReason) {
	before := c.paused
	c.paused &^= why
	if before != 0 && c.paused == 0 {
		c.renewRead()
		c.setReading(true)
	}
}

func (c *conn) setReading(on bool) {
	if c.closed {
		return
	}
	if err := c.sock.setReading(on); err != nil {
		c.l.log(LogError, "CLIENT(%s): %s", c.remote, err)
		c.dead = true
	}
}

// receive takes what one read brought.
func (c *conn) receive(p []byte) {
	if c.ending || c.dead {
		return // dropped: an answer is on its way that ends the connection
	}
	if c.magicLen < uint8(len(c.magic)) {
		if p = c.readMagic(p); len(p) == 0 {
			return
		}
	}
	switch {
	case c.up != nil:
		c.upgradeInput(p)
	case c.filter != nil:
		c.receiveWire(p)
	default:
		c.decode(p)
	}
}

// decode executes all complete commands of p, publishes what they publish, and keeps the rest.
func (c *conn) decode(p []byte) {
	wait := false
	rest, commands := c.completeCarry(p)
	for len(rest) > 0 && !c.stopped() {
		n, ok, err := c.split.Next(rest, c.pol, &c.l.cmd)
		if err != nil {
			c.refuse(err)
			break
		}
		if !ok {
			break
		}
		if c.l.cmd.Kind == codec.KindSub { // a new channel starts behind what was published before it
			if c.l.flushPublishes(c); c.job != nil {
				wait = true
				break // decoded again when that is there
			}
		}
		rest = rest[n:]
		commands++
		c.execute(&c.l.cmd)
	}
	c.l.flushPublishes(c) // before anything below reuses the memory that bodies lie in
	if commands > 0 {
		c.renewRead()
	}
	switch {
	case c.ending || c.dead || len(rest) == 0:
	case c.up != nil:
		c.upgradeRest(rest)
	case c.full || wait || c.asking():
		c.parked = c.l.blocks.grow(nil, rest)
	default:
		c.carry = c.l.blocks.grow(c.carry, rest)
	}
	if len(c.carry) == 0 {
		c.l.blocks.put(c.carry)
		c.carry = nil
	}
}

// stopped tells that no further command may be executed now.
func (c *conn) stopped() bool { return c.ending || c.full || c.dead || c.up != nil || c.asking() }

// completeCarry moves as much of p behind the carry as its command needs, and executes that. What it returns is decoded
// in place. The carry is empty afterwards or p is used up; the command's memory lives until the next flushPublishes.
func (c *conn) completeCarry(p []byte) (rest []byte, commands int) {
	for len(c.carry) > 0 && len(p) > 0 {
		want := c.split.Want(len(c.carry), p)
		if len(c.carry)+want > c.l.opt.carryMax() {
			c.refuse(c.l.opt.errTooLong(len(c.carry) + len(p)))
			return nil, commands
		}
		c.carry = c.l.blocks.grow(c.carry, p[:want])
		p = p[want:]
		n, ok, err := c.split.Next(c.carry, c.pol, &c.l.cmd)
		if err != nil {
			c.refuse(err)
			return nil, commands
		}
		if !ok {
			continue
		}
		if n != len(c.carry) {
			panic("BUG: codec wanted bytes of the next command")
		}
		c.carry = c.carry[:0]
		commands++
		c.execute(&c.l.cmd)
	}
	return p, commands
}

// continueInput decodes input that was parked.
func (c *conn) continueInput() {
	block := c.parked
	if block != nil {
		c.parked = nil
		c.decode(block)
	} else {
		block = c.wire
		c.wire = nil
		c.receiveWire(block)
	}
	c.l.blocks.put(block)
}

// settle ends every event of a connection: everything that may go out goes out, and what follows from it is done.
func (c *conn) settle() {
	for {
		if c.acked {
			c.cons.SaveDelays() // an answer that goes out below tells that the REQs before it took effect
		}
		c.flushReplies()
		if c.up != nil {
			c.proceed()
		}
		if c.acked {
			c.acked = false
			c.cons.EndBatch()
		}
		if c.full && !c.backlogged() {
			c.full = false
			c.resume(pauseOutput)
		}
		if c.job != nil && !c.job.submitted {
			c.submitJob()
		}
		if c.takeAnswer() {
			continue
		}
		if c.parked == nil && c.wire == nil || c.stopped() || c.paused != 0 {
			break
		}
		c.continueInput()
	}
	if c.full {
		c.pause(pauseOutput)
	}
	if c.dead || c.ending && c.replies.empty() && !c.unsent() {
		c.l.closeConn(c)
		return
	}
	c.updateReady()
	c.armTimer()
}

// dropBuffers gives every block back.
func (c *conn) dropBuffers() {
	for _, b := range []*[]byte{&c.carry, &c.parked, &c.wire, &c.control, &c.wireOut} {
		c.l.blocks.put(*b)
		*b = nil
	}
	c.controlSent, c.wireSent = 0, 0
	c.dropHeld()
	c.replies.clear()
}
