package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
)

// Publisher describes a publishing load.
type Publisher struct {
	Addr     string
	Topic    string
	Conns    int
	Messages int // over all connections; the last command may hold fewer than Batch
	Size     int // bytes of each body
	Batch    int // messages of one MPUB; 0 publishes with PUB
	// Window is the number of commands that may wait for their OK on one connection; 1 is synchronous. A pipelining connection writes again
	// when half of them were answered, so that neither side is driven into one small write per command.
	Window int
	Link   client.Link
}

// poolBytes is how much encoded input a connection cycles through: more than the caches of one core hold.
const poolBytes = 4 << 20

// Prepared is a load with its connections open and its commands encoded.
type Prepared struct {
	Publisher
	conns []*publishConn
}

// publishConn is one connection and what it has to send.
type publishConn struct {
	*client.Conn
	pool     []byte // equal commands of full batches, one after the other
	command  int    // bytes of each of them
	commands int    // how many to send; they may be more than pool holds
	rest     []byte // one smaller command at the end, or empty
	replies  []byte
}

// Prepare connects and encodes. Close must be called.
func (p Publisher) Prepare(ctx context.Context) (*Prepared, error) {
	prepared := &Prepared{Publisher: p}
	var seed [32]byte
	random := rand.NewChaCha8(seed)
	batch := max(1, p.Batch)
	for i := range p.Conns {
		// Heartbeats would stand between the OKs.
		conn, err := p.Link.Dial(ctx, p.Addr, map[string]any{"heartbeat_interval": -1})
		if err != nil {
			prepared.Close()
			return nil, err
		}
		share := (i+1)*p.Messages/p.Conns - i*p.Messages/p.Conns
		c := &publishConn{Conn: conn, commands: share / batch}
		if c.commands > 0 {
			first := p.encode(nil, batch, random)
			c.command = len(first)
			c.pool = first
			for n := 1; n < c.commands && len(c.pool) < max(poolBytes, p.Window*c.command); n++ {
				c.pool = p.encode(c.pool, batch, random)
			}
		}
		if share%batch > 0 {
			c.rest = p.encode(nil, share%batch, random)
		}
		c.replies = make([]byte, max(4096, p.Window*len(codec.FrameOK)))
		prepared.conns = append(prepared.conns, c)
	}
	return prepared, nil
}

func (p Publisher) encode(dst []byte, messages int, random *rand.ChaCha8) []byte {
	bodies := make([][]byte, messages)
	for i := range bodies {
		bodies[i] = make([]byte, p.Size)
		_, _ = random.Read(bodies[i]) // never fails
	}
	if p.Batch == 0 {
		return codec.AppendPub(dst, p.Topic, bodies[0])
	}
	return codec.AppendMpub(dst, p.Topic, bodies)
}

// Close closes the connections.
func (p *Prepared) Close() {
	for _, c := range p.conns {
		_ = c.Close() // after the last OK nothing is left to lose
	}
}

// Run publishes everything and returns when the last OK has arrived.
func (p *Prepared) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range p.conns {
		unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
		group.Go(func() error {
			defer unhook()
			if err := c.publish(p.Window); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// publish keeps up to window commands outstanding.
func (c *publishConn) publish(window int) error {
	unsent, outstanding, at := c.commands, 0, 0
	partial := 0 // bytes of a cut OK at the head of the next read
	for unsent > 0 || outstanding > 0 {
		if free := min(window-outstanding, unsent); free > 0 && (outstanding == 0 || free >= (window+1)/2 || free == unsent) {
			// A piece must not run over the end of the pool.
			n := min(free, (len(c.pool)-at)/c.command)
			if _, err := c.Write(c.pool[at : at+n*c.command]); err != nil {
				return err
			}
			unsent, outstanding = unsent-n, outstanding+n
			if at += n * c.command; at == len(c.pool) {
				at = 0
			}
			if n < free {
				continue
			}
		}
		oks, err := c.readOKs(&partial)
		if err != nil {
			return err
		}
		outstanding -= oks
	}
	if len(c.rest) > 0 {
		c.Out = append(c.Out, c.rest...)
		return c.Expect("OK")
	}
	return nil
}

// readOKs reads once and returns how many OK frames were completed. *partial is how much of the next one was seen.
func (c *publishConn) readOKs(partial *int) (int, error) {
	n, err := c.Read(c.replies[*partial:])
	if err != nil {
		return 0, err
	}
	n += *partial
	copy(c.replies, codec.FrameOK[:*partial])
	whole := n / len(codec.FrameOK)
	for i := range whole {
		if frame := c.replies[i*len(codec.FrameOK):]; !bytes.Equal(frame[:len(codec.FrameOK)], codec.FrameOK) {
			return 0, fmt.Errorf("the broker answers %.120q", frame[:n-i*len(codec.FrameOK)])
		}
	}
	*partial = n % len(codec.FrameOK)
	if tail := c.replies[whole*len(codec.FrameOK) : n]; !bytes.HasPrefix(codec.FrameOK, tail) {
		return 0, fmt.Errorf("the broker answers %.120q", tail)
	}
	return whole, nil
}
