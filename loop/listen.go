package loop

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Our own listeners and accept goroutines, one per address: real addresses, port 0, Unix sockets, survival when
// descriptors run out, and listeners that close before the connections do.

const (
	acceptRetryFirst = 5 * time.Millisecond
	acceptRetryMax   = time.Second
)

// network tells what kind of address addr is: whatever is not host:port is the path of a Unix socket.
func network(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "unix"
	}
	return "tcp"
}

func (s *Server) listenAll() error {
	for _, addr := range s.opt.Addresses {
		ln, err := s.listen(network(addr), addr)
		if err != nil {
			return fmt.Errorf("listen (%s) failed - %w", addr, err)
		}
		s.listeners = append(s.listeners, ln)
	}
	return nil
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, ln := range s.listeners {
		s.log(LogInfo, "TCP: closing %s", ln.Addr())
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// accept runs until its listener is closed. Any other failure, such as having no descriptor left, is waited out: it is
// logged once, and once more when accepting goes on.
func (s *Server) accept(ln net.Listener) {
	defer s.accepting.Done()
	var wait time.Duration
	for {
		nc, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			if err = s.admit(nc); err == nil {
				if wait != 0 {
					wait = 0
					s.log(LogInfo, "TCP: accepting again on %s", ln.Addr())
				}
				continue
			}
		}
		if wait == 0 {
			s.log(LogError, "TCP: cannot accept on %s, will go on trying - %s", ln.Addr(), err)
		}
		wait = min(max(2*wait, acceptRetryFirst), acceptRetryMax)
		select {
		case <-time.After(wait):
		case <-s.stopping:
			return
		}
	}
}

// admit gives a connection to the loop with the fewest, unless there are too many in all. An error is the server's
// trouble, not the connection's.
func (s *Server) admit(nc net.Conn) error {
	if n := s.open.Add(1); s.opt.MaxConnections > 0 && n > s.opt.MaxConnections {
		s.open.Add(-1)
		s.refused.Add(1)
		s.log(LogWarn, "TCP: refused client(%s): %d connections are open", nc.RemoteAddr(), s.opt.MaxConnections)
		if err := nc.Close(); err != nil {
			s.log(LogDebug, "TCP: closing client(%s): %s", nc.RemoteAddr(), err)
		}
		return nil
	}
	l := s.loops[0]
	for _, other := range s.loops[1:] {
		if other.load.Load() < l.load.Load() {
			l = other
		}
	}
	remote := nc.RemoteAddr().String()
	s.log(LogInfo, "TCP: new client(%s)", remote)
	l.load.Add(1)
	c := newConn(l, remote, time.Now())
	c.local = nc.LocalAddr()
	if err := l.engine.enroll(nc, c); err != nil {
		l.load.Add(-1)
		s.open.Add(-1)
		s.refused.Add(1)
		return fmt.Errorf("client(%s): %w", remote, err)
	}
	s.accepted.Add(1)
	return nil
}

// peerHost is the address of a peer without its port; of a Unix socket, nothing.
func peerHost(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return ""
	}
	return host
}

// raiseDescriptorLimit makes the soft limit of open files the hard one.
func raiseDescriptorLimit() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if lim.Cur == lim.Max {
		return nil
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}
