package lookupd

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Logger takes finished lines without prefix, time or newline. Any goroutine.
type Logger interface {
	Debugf(format string, args ...any)
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
	Errorf(format string, args ...any)
}

// ServerOptions are fixed while a Server runs.
type ServerOptions struct {
	Registry *Registry
	Log      Logger

	BroadcastAddress  string // what IDENTIFY is answered with, as are the next three
	Hostname          string
	TCPPort, HTTPPort int
	Version           string

	MagicTimeout    time.Duration // for the first four bytes; 0 = any
	MaxConnections  int           // more are closed at once; 0 = any number
	MaxLineSize     int           // bytes of a command line with its end; at least 16
	MaxIdentifySize int           // bytes of an IDENTIFY body
}

// Limits of one connection that nobody needs to set.
const (
	bodyTimeout  = 10 * time.Second // for an IDENTIFY body to arrive whole
	writeTimeout = 10 * time.Second // for a reply to leave
)

// Server speaks the lookup protocol V1 on one listener: a goroutine per connection, since there is one connection per nsqd, which says a few
// words every 15 seconds. A connection can only ever hold up itself: nothing is locked while it is read from or written to.
type Server struct {
	o        ServerOptions
	listener net.Listener
	stopping chan struct{}
	running  sync.WaitGroup // the accepting goroutine and one per connection

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool

	refused uint64 // connections turned away since start
}

// NewServer owns listener from now on.
func NewServer(listener net.Listener, o ServerOptions) *Server {
	return &Server{o: o, listener: listener, stopping: make(chan struct{}), conns: map[net.Conn]struct{}{}}
}

// Start accepts in a goroutine of its own. It is called once.
func (s *Server) Start() {
	s.o.Log.Infof("TCP: listening on %s", s.listener.Addr())
	s.running.Add(1)
	go s.accept()
}

// Stop closes the listener and every connection and waits until all are gone, from the registry too. It is called once.
func (s *Server) Stop() error {
	close(s.stopping)
	err := s.listener.Close()
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		s.closeConn(c)
	}
	s.mu.Unlock()
	s.running.Wait()
	s.o.Log.Infof("TCP: closing %s", s.listener.Addr())
	if err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	return nil
}

func (s *Server) closeConn(c net.Conn) {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.o.Log.Debugf("client(%s) - %s", c.RemoteAddr(), err)
	}
}

// Accepting after an error, such as having no descriptor left: the wait doubles from the first to the second.
const (
	acceptWaitMin = 5 * time.Millisecond
	acceptWaitMax = time.Second
)

// accept runs until the listener is closed; any other failure is waited out.
func (s *Server) accept() {
	defer s.running.Done()
	wait := acceptWaitMin
	for {
		c, err := s.listener.Accept()
		switch {
		case err == nil:
			wait = acceptWaitMin
			s.admit(c)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		s.o.Log.Errorf("TCP: accept failed, next try in %s - %s", wait, err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.stopping:
			timer.Stop()
			return
		}
		wait = min(2*wait, acceptWaitMax)
	}
}

// admit gives a connection a goroutine, unless there are too many.
func (s *Server) admit(c net.Conn) {
	s.mu.Lock()
	full := s.o.MaxConnections > 0 && len(s.conns) >= s.o.MaxConnections
	if full || s.ended {
		if full {
			s.refused++
		}
		s.mu.Unlock()
		if full {
			s.o.Log.Warnf("TCP: refused client(%s): %d connections are open", c.RemoteAddr(), s.o.MaxConnections)
		}
		s.closeConn(c)
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.running.Add(1)
	go s.handle(c)
}

// handle serves one connection to its end.
func (s *Server) handle(c net.Conn) {
	defer s.running.Done()
	addr := c.RemoteAddr().String()
	s.o.Log.Infof("TCP: new client(%s)", addr)
	newSession(s, c, addr).run()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.closeConn(c)
}
