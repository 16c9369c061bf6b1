package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// probe is a connection from the process to itself on which an engine shows at its start that pausing works: the one
// thing that leans on gnet's inside.
type probe struct {
	g       *gnetEngine
	peer    int // our end
	gc      gnet.Conn
	err     error         // what opened found
	arrived bool          // loop goroutine: a byte came
	seen    chan struct{} // closed when it came
}

const selfCheckTimeout = 10 * time.Second

func (g *gnetEngine) selfCheck() (err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	p := &probe{g: g, peer: pair[0], seen: make(chan struct{})}
	g.probe = p
	defer func() { err = errors.Join(err, unix.Close(p.peer)) }()

	file := os.NewFile(uintptr(pair[1]), "probe")
	nc, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if p.gc, err = g.client.EnrollContext(nc, p); err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	defer func() { err = errors.Join(err, p.onLoop(p.close)) }()
	if p.err != nil {
		return p.err
	}
	return p.run()
}

// run: a byte sent while paused must not arrive, and must arrive after resuming.
func (p *probe) run() error {
	if err := p.onLoop(func() error { return p.g.pause(p.gc.Fd(), true) }); err != nil {
		return fmt.Errorf("pausing a connection: %w", err)
	}
	if _, err := unix.Write(p.peer, []byte{1}); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	// The byte is readable before this task is queued, and the loop looks at its sockets before its tasks: had pausing
	// not worked, the byte would have been read by now.
	if err := p.onLoop(p.resume); err != nil {
		return err
	}
	select {
	case <-p.seen:
		return nil
	case <-time.After(selfCheckTimeout):
		return errors.New("a resumed connection reads nothing")
	}
}

func (p *probe) resume() error {
	if p.arrived {
		return errors.New("a paused connection goes on reading")
	}
	if err := p.g.pause(p.gc.Fd(), false); err != nil {
		return fmt.Errorf("resuming a connection: %w", err)
	}
	return nil
}

func (p *probe) close() error { return p.g.el.Close(p.gc) }

// onLoop runs f on the loop goroutine and waits for its result.
func (p *probe) onLoop(f func() error) error {
	result := make(chan error, 1)
	err := p.gc.EventLoop().Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		result <- f()
		return nil
	}))
	if err != nil {
		return fmt.Errorf("execute: %w", err)
	}
	select {
	case err := <-result:
		return err
	case <-time.After(selfCheckTimeout):
		return errors.New("the event loop does not answer")
	}
}

// opened is the first callback on the loop goroutine.
func (p *probe) opened(gc gnet.Conn) gnet.Action {
	onLoopStart()
	p.g.el = gc.EventLoop()
	p.g.epoll, p.err = epollOf(p.g.el)
	return gnet.None
}

func (p *probe) traffic() gnet.Action {
	if !p.arrived {
		p.arrived = true
		close(p.seen)
	}
	return gnet.None
}
