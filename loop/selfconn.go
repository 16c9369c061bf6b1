package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// selfConn is a loop's connection to itself. At the start it shows that pausing works, the one thing that leans on
// gnet's inside. From then on a byte on it is the loop's way to come back to something after the input that waits.
type selfConn struct {
	g    *gnetEngine
	peer int // our end, never read
	gc   gnet.Conn

	// Loop goroutine only.
	err     error         // what opened found
	arrived bool          // a byte came
	seen    chan struct{} // closed by that
	checked bool          // from now on a byte means resumed
}

const selfCheckTimeout = 10 * time.Second

// connectSelf makes the connection and checks the engine on it. After an error stop closes what there is.
func (g *gnetEngine) connectSelf() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	s := &selfConn{g: g, peer: pair[0], seen: make(chan struct{})}
	g.self = s
	file := os.NewFile(uintptr(pair[1]), "self")
	nc, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if s.gc, err = g.client.EnrollContext(nc, s); err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	if s.err != nil {
		return s.err
	}
	return s.check()
}

// check: a byte sent while paused must not arrive, and must arrive after resuming.
func (s *selfConn) check() error {
	if err := s.onLoop(func() error { return s.g.pause(s.gc.Fd(), true) }); err != nil {
		return fmt.Errorf("pausing a connection: %w", err)
	}
	if _, err := unix.Write(s.peer, []byte{1}); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	// The byte is readable before this task is queued, and the loop looks at its sockets before its tasks: had pausing
	// not worked, the byte would have been read by now.
	if err := s.onLoop(s.resume); err != nil {
		return err
	}
	select {
	case <-s.seen:
	case <-time.After(selfCheckTimeout):
		return errors.New("a resumed connection reads nothing")
	}
	return s.onLoop(func() error {
		s.checked = true
		return nil
	})
}

func (s *selfConn) resume() error {
	if s.arrived {
		return errors.New("a paused connection goes on reading")
	}
	if err := s.g.pause(s.gc.Fd(), false); err != nil {
		return fmt.Errorf("resuming a connection: %w", err)
	}
	return nil
}

// onLoop runs f on the loop goroutine and waits for its result.
func (s *selfConn) onLoop(f func() error) error {
	result := make(chan error, 1)
	err := s.g.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
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

// opened is the first callback on the loop goroutine, which it prepares: a fault in mapped memory becomes a panic, which
// is contained, instead of the end of the process. That setting belongs to the goroutine.
func (s *selfConn) opened(gc gnet.Conn) gnet.Action {
	debug.SetPanicOnFault(true)
	s.g.el = gc.EventLoop()
	s.g.epoll, s.err = epollOf(s.g.el)
	return gnet.None
}

func (s *selfConn) traffic() gnet.Action {
	switch {
	case s.checked:
		s.g.h.resumed()
	case !s.arrived:
		s.arrived = true
		close(s.seen)
	}
	return gnet.None
}

// knock sends a byte. The loop asks for one at a time, so there is always room.
func (s *selfConn) knock() {
	if _, err := unix.Write(s.peer, []byte{1}); err != nil {
		s.g.log(LogError, "an event loop cannot write to itself: %s", err)
	}
}
