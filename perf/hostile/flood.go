package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attack is what a number of clients do over and over: connect, be nasty, disconnect.
type attack struct {
	name    string
	clients int
	pause   time.Duration // between two connections of a client
	window  int           // receive buffer in bytes; 0 is the kernel's
	http    bool          // it goes at the HTTP listener
	whole   time.Duration // how long it must run to show all it can; 0 = any time
	life    func(c victim)
}

// victim is one connection to what is attacked, in the hands of one client.
type victim struct {
	net.Conn
	ctx  context.Context // ends with the attack
	rand *rand.Rand
	id   int // of the client
	f    *flood
}

// send writes and does not care: the other side may be gone.
func (v victim) send(p []byte) bool {
	_, err := v.Write(p)
	return err == nil
}

// untilClosed reads and discards until the other side closes or the attack ends.
func (v victim) untilClosed() { _, _ = io.Copy(io.Discard, v.Conn) }

// wait returns false when the attack ended meanwhile.
func (v victim) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-v.ctx.Done():
		return false
	}
}

// reset makes the close that follows a reset.
func (v victim) reset() { _ = v.Conn.(*net.TCPConn).SetLinger(0) }

type flood struct {
	clients sync.WaitGroup
	opened  atomic.Int64
	judged  atomic.Int64 // answers and closings that were as they must be
	wrong   atomic.Int64 // those that were not

	mu    sync.Mutex
	first error // of the wrong ones
}

// found counts what a client saw of the other side; err = it was not as it must be.
func (f *flood) found(err error) {
	if err == nil {
		f.judged.Add(1)
		return
	}
	f.wrong.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		f.first = err
	}
}

// verdict is called when all clients have gone.
func (f *flood) verdict() error {
	if f.first == nil {
		return nil
	}
	return fmt.Errorf("%d of %d answers and closings are wrong, the first: %w", f.wrong.Load(), f.wrong.Load()+f.judged.Load(), f.first)
}

// startFlood lets the clients of an attack loose until ctx ends.
func startFlood(ctx context.Context, addr string, a attack) *flood {
	f := &flood{}
	var control func(_, _ string, raw syscall.RawConn) error
	if a.window > 0 {
		control = func(_, _ string, raw syscall.RawConn) (err error) {
			controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, a.window) })
			if err == nil {
				err = controlErr
			}
			return err
		}
	}
	for id := range a.clients {
		f.clients.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(id)))
			dialer := net.Dialer{Control: control, LocalAddr: source(id)}
			for ctx.Err() == nil {
				conn, err := dialer.DialContext(ctx, "tcp", addr)
				if err == nil {
					f.opened.Add(1)
					f.live(ctx, a, victim{Conn: conn, ctx: ctx, rand: random, id: id, f: f})
				}
				select {
				case <-time.After(a.pause):
				case <-ctx.Done():
				}
			}
		})
	}
	return f
}

// source spreads clients over addresses: one has ports for 28,000 connections only, those that wait for their last end included.
func source(id int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+id%16))} }

func (f *flood) live(ctx context.Context, a attack, v victim) {
	unhook := context.AfterFunc(ctx, func() { _ = v.Close() })
	defer unhook()
	a.life(v)
	_ = v.Close() // it may be closed already
}

// wait returns when all clients have gone.
func (f *flood) wait() { f.clients.Wait() }

// discard accepts everything and reads it.
type discard struct {
	listener net.Listener
	running  sync.WaitGroup
}

func startDiscard() (*discard, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &discard{listener: listener}
	d.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			d.running.Go(func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
	})
	return d, nil
}

func (d *discard) addr() string { return d.listener.Addr().String() }

func (d *discard) close() error {
	err := d.listener.Close()
	d.running.Wait()
	return err
}
