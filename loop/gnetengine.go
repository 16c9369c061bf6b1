package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync/atomic"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// readBuffer is what one read can bring, in bytes, per loop. 64 KiB cost 1.4 times the CPU at 200-byte messages and 3.5
// times at 16 KiB.
const readBuffer = 256 << 10

// gnetEngine runs one loop on a gnet client: level-triggered epoll, no listeners, connections enrolled one by one.
//
// gnet is used for waiting and reading only. Its Write is unsafe for a connection that a write error closed meanwhile
// (the descriptor may already be another's), its Execute does not keep order, its input buffer has no bound. So all of
// a read is consumed at once, writes go past it, and Execute is nothing but a bell.
type gnetEngine struct {
	gnet.BuiltinEventEngine
	log    LogFunc
	client *gnet.Client
	h      handler
	el     gnet.EventLoop // set before start returns
	epoll  int            // descriptor of gnet's epoll instance, for pausing
	bell   gnet.Runnable

	// Loop goroutine only.
	serving    *gnetSocket // whose callback is on the stack
	closeAfter bool        // serving was closed inside its own callback

	self *selfConn
}

func newGnetEngine(log LogFunc) *gnetEngine { return &gnetEngine{log: log} }

func (g *gnetEngine) start(h handler) error {
	g.h = h
	g.bell = gnet.RunnableFunc(func(context.Context) error {
		g.h.rung()
		return nil
	})
	client, err := gnet.NewClient(g,
		gnet.WithNumEventLoop(1),
		gnet.WithReadBufferCap(readBuffer),
		gnet.WithLogger(gnetLog{g.log}))
	if err != nil {
		return fmt.Errorf("cannot make an event loop: %w", err)
	}
	if err := client.Start(); err != nil {
		return fmt.Errorf("cannot start an event loop: %w", err)
	}
	g.client = client
	if err := g.connectSelf(); err != nil {
		return errors.Join(fmt.Errorf("this build of gnet does not do what the event loops need: %w", err), g.stop())
	}
	return nil
}

func (g *gnetEngine) enroll(nc net.Conn, c *conn) error {
	s := &gnetSocket{engine: g, c: c}
	if _, err := g.client.EnrollContext(nc, s); err != nil {
		return err
	}
	// gnet does not report a connection that epoll refused.
	if !s.enrolled.Load() {
		return errors.New("epoll refused the connection")
	}
	return nil
}

func (g *gnetEngine) ring() {
	if err := g.el.Execute(context.Background(), g.bell); err != nil {
		g.log(LogError, "cannot wake an event loop: %s", err)
	}
}

// yield goes through the loop's connection to itself: gnet runs what Execute queues, and what that queues in turn, before
// it looks at any socket again.
func (g *gnetEngine) yield() { g.self.knock() }

func (g *gnetEngine) stop() error {
	err := g.client.Stop()
	if g.self != nil {
		err = errors.Join(err, unix.Close(g.self.peer))
	}
	return err
}

func (g *gnetEngine) OnOpen(gc gnet.Conn) ([]byte, gnet.Action) {
	s, ok := gc.Context().(*gnetSocket)
	if !ok {
		return nil, g.self.opened(gc)
	}
	s.gc, s.fd = gc, gc.Fd()
	s.enrolled.Store(true)
	g.serving, g.closeAfter = s, false
	g.h.opened(s.c, s)
	return nil, g.served()
}

func (g *gnetEngine) OnTraffic(gc gnet.Conn) gnet.Action {
	p, err := gc.Next(-1) // all of it, so that gnet never keeps a byte
	if err != nil {
		g.log(LogError, "gnet: %s", err)
		return gnet.Close
	}
	s, ok := gc.Context().(*gnetSocket)
	if !ok {
		return g.self.traffic()
	}
	g.serving, g.closeAfter = s, false
	g.h.readable(s.c, p)
	return g.served()
}

func (g *gnetEngine) served() gnet.Action {
	g.serving = nil
	if g.closeAfter {
		g.closeAfter = false
		return gnet.Close
	}
	return gnet.None
}

func (g *gnetEngine) OnClose(gc gnet.Conn, err error) gnet.Action {
	if s, ok := gc.Context().(*gnetSocket); ok && !s.closed {
		s.closed = true
		g.h.closed(s.c, err)
	}
	return gnet.None
}

// gnetSocket is a socket on gnet. Its fields but enrolled belong to the loop goroutine.
type gnetSocket struct {
	engine   *gnetEngine
	c        *conn
	gc       gnet.Conn
	fd       int
	closed   bool
	enrolled atomic.Bool
}

func (s *gnetSocket) descriptor() int { return s.fd }

func (s *gnetSocket) setReading(on bool) error {
	if s.closed {
		return nil
	}
	return s.engine.pause(s.fd, !on)
}

func (s *gnetSocket) close() {
	if s.closed {
		return
	}
	s.closed = true
	if s.engine.serving == s {
		s.engine.closeAfter = true
		return
	}
	if err := s.engine.el.Close(s.gc); err != nil {
		s.engine.log(LogError, "gnet: %s", err)
	}
}

// pause takes a descriptor's events out of gnet's epoll instance, or puts them back. gnet offers no such thing. It holds
// as long as gnet itself never changes the events, which it does only for output that it buffers, and we give it none.
func (g *gnetEngine) pause(fd int, paused bool) error {
	ev := unix.EpollEvent{Fd: int32(fd)}
	if !paused {
		ev.Events = unix.EPOLLIN | unix.EPOLLPRI
	}
	if err := unix.EpollCtl(g.epoll, unix.EPOLL_CTL_MOD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// epollOf digs the epoll descriptor out of gnet's event loop.
func epollOf(el gnet.EventLoop) (fd int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("no epoll descriptor in its event loop: %v", r)
		}
	}()
	return int(reflect.ValueOf(el).Elem().FieldByName("poller").Elem().FieldByName("fd").Int()), nil
}
