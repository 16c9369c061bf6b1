package compat

import (
	"fmt"
	"strings"
	"time"
)

const (
	// patience is how long an expected frame may take where the script gives
	// no bounds. Only a failing conversation ever waits that long.
	patience = 15 * time.Second
	// lateness is how long a frame is waited for beyond its upper bound, in
	// order to report when it really came.
	lateness = 5 * time.Second

	// stallBuffer is the receive buffer of a connection that stalls: the kernel
	// must not read much in its place.
	stallBuffer = 4 << 10

	// A report shows the beginning and the end of what happened.
	reportHead, reportTail = 12, 25

	fenceTopic = "compat-fence"
)

// A player runs one conversation once. It belongs to one goroutine.
type player struct {
	conv     *conversation
	daemon   *daemon
	peer     peer
	variant  string // which side of a difference holds
	bytewise bool
	patience time.Duration

	vars     map[string]string // bound variables, message ids among them
	stamps   map[string]int64  // timestamp of each bound message id
	conns    map[string]*conn
	began    time.Time // when the previous step began, for lower bounds
	done     time.Time // when it was done, for upper bounds
	started  time.Time
	notebook []string // what happened, for the report of a failure

	restarted []*daemon // in place of the one the conversation began with
}

func newPlayer(c *conversation, d *daemon, p peer, bytewise bool, number int) *player {
	topic := topicName(number, bytewise)
	return &player{
		conv: c, daemon: d, peer: p, variant: p.variant, bytewise: bytewise, patience: patience,
		vars: map[string]string{
			"t": topic, "u": "u" + topic[1:], "version": p.version, "dir": d.dir,
		},
		stamps: map[string]int64{},
		conns:  map[string]*conn{},
	}
}

// topicName is 16 bytes long, so that scripts can fill names up to the limit.
func topicName(number int, bytewise bool) string {
	mode := "whole"
	if bytewise {
		mode = "bytes"
	}
	return fmt.Sprintf("t-%s-%08d", mode, number)
}

// play runs the script and closes its connections. The error tells the step,
// what was expected, what came, and everything that happened before.
func (p *player) play() error {
	p.started = time.Now()
	p.began, p.done = p.started, p.started
	err := p.playSteps()
	for name, c := range p.conns {
		if closeErr := c.close(); closeErr != nil && err == nil {
			err = fmt.Errorf("closing %s: %w", name, closeErr)
		}
	}
	if endErr := p.endRestarted(); err == nil {
		err = endErr
	}
	return err
}

func (p *player) playSteps() error {
	for i := range p.conv.steps {
		s := &p.conv.steps[i]
		if s.variant != "" && s.variant != p.variant {
			continue
		}
		if err := p.step(s); err != nil {
			return p.failure(fmt.Sprintf("%s:%d: %s", p.conv.file, s.line, s.text), err)
		}
	}
	for name, c := range p.conns {
		if c.ended {
			continue
		}
		c.skipBeats = true
		if err := p.lastWord(name, c); err != nil {
			return p.failure("end of the conversation, connection "+name, err)
		}
	}
	return nil
}

// lastWord makes sure that the peer has nothing more to say to a connection
// that the script leaves open.
func (p *player) lastWord(name string, c *conn) error {
	if !c.halfClosed {
		return p.fence(name, c)
	}
	e, ok := c.next(p.patience, true)
	if !ok {
		return fmt.Errorf("half closed, and the peer does not close")
	}
	return fmt.Errorf("not accounted for: %s", e)
}

func (p *player) sawReset() bool {
	for _, c := range p.conns {
		if c.reset {
			return true
		}
	}
	return false
}

func (p *player) failure(where string, err error) error {
	pages := p.notebook
	if skipped := len(pages) - reportHead - reportTail; skipped > 0 {
		pages = append(pages[:reportHead:reportHead], fmt.Sprintf("... %d more ...", skipped))
		pages = append(pages, p.notebook[len(p.notebook)-reportTail:]...)
	}
	return fmt.Errorf("%s\n    %w\n  what happened:\n    %s", where, err, strings.Join(pages, "\n    "))
}

func (p *player) note(format string, args ...any) {
	at := time.Since(p.started).Round(100 * time.Microsecond)
	p.notebook = append(p.notebook, fmt.Sprintf("%10v  ", at)+fmt.Sprintf(format, args...))
}

func (p *player) step(s *step) error {
	if s.conn == "" {
		return p.daemonStep(s)
	}
	began := time.Now()
	c, err := p.conn(s)
	if err != nil {
		return err
	}
	switch s.verb {
	case "<":
		for i := range s.count {
			if err := p.expect(s, c, i); err != nil {
				return err
			}
		}
		return nil
	case ">":
		err = p.send(s, c)
	case "fence":
		err = p.fence(s.conn, c)
	case "half-close":
		p.note("%s half-close", s.conn)
		err = c.halfClose()
	case "close":
		p.note("%s close", s.conn)
		c.ended = true
		err = c.close()
	case "stall":
		err = c.stall()
	case "resume":
		c.resume()
	case "drain":
		err = p.drain(s.conn, c)
	case "skip messages":
		c.skip[frameMessage] = true
	case "skip heartbeats":
		c.skipBeats = true
	case "raw":
		c.raw.Store(true)
	case "anonymous":
		c.anonymous.Store(true)
	}
	p.began, p.done = began, time.Now()
	return err
}

// conn returns the connection of a step and opens it at its first one.
func (p *player) conn(s *step) (*conn, error) {
	if c := p.conns[s.conn]; c != nil {
		return c, nil
	}
	receiveBuffer := 0
	if p.conv.stalls(s.conn) {
		receiveBuffer = stallBuffer
	}
	c, err := dial(p.daemon.network, p.daemon.tcp, receiveBuffer)
	if err != nil {
		return nil, err
	}
	p.conns[s.conn] = c
	p.note("%s dial", s.conn)
	if s.verb == "dial" {
		return c, nil
	}
	return c, c.send([]byte("  V2"), p.bytewise)
}

func (p *player) send(s *step, c *conn) error {
	var all []byte
	for i := range s.count {
		p.vars["i"] = fmt.Sprint(i)
		data, err := expand(s.arg, p.vars)
		if err != nil {
			return err
		}
		all = append(all, data...)
	}
	p.note("%s> %q", s.conn, clip(all))
	return c.send(all, p.bytewise)
}

// fence proves that the peer has executed everything it was sent and has no
// frame on its way: the answer to a publish must be the next one.
func (p *player) fence(name string, c *conn) error {
	data, err := expand("PUB "+fenceTopic+"\\n[x]", nil)
	if err != nil {
		return err
	}
	p.note("%s> fence", name)
	if err := c.send(data, false); err != nil {
		return err
	}
	e, ok := c.next(p.patience, true)
	if !ok {
		return fmt.Errorf("expected the OK of the fence, nothing came")
	}
	p.note("%s< %s", name, e)
	if e.end != "" || e.kind != frameResponse || string(e.data) != "OK" {
		return fmt.Errorf("expected the OK of the fence\n    got      %s", e)
	}
	return nil
}

// drain reads up to the end, however it looks: what the peer sent before it gave
// a connection up may be cut anywhere.
func (p *player) drain(name string, c *conn) error {
	c.resume()
	count := 0
	for deadline := time.Now().Add(p.patience); time.Now().Before(deadline); count++ {
		e, ok := c.next(time.Until(deadline), true)
		if !ok {
			break
		}
		if e.end != "" {
			p.note("%s< %d frames, then %s", name, count, e)
			c.ended = true
			if strings.HasPrefix(e.end, "malformed") {
				return fmt.Errorf("%s after %d frames", e.end, count)
			}
			return nil
		}
	}
	return fmt.Errorf("no end after %d frames", count)
}
