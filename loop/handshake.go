package loop

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"sync"
)

// A TLS handshake cannot pause, so each has a goroutine, from the first whole record of the client to the end. Only so
// many compute at a time; one that waits for its client lets others compute, so half-open handshakes are in nobody's way.
// It reads and writes memory; the loop moves bytes between that and the socket.

const (
	handshakeTimeout = 5e9      // ns, as stock
	handshakeStaged  = 64 << 10 // bytes of input that may wait for the goroutine
	tlsRecordHead    = 5
	tlsHandshakeType = 22
)

// handshakes are those of a server.
type handshakes struct {
	slots   chan struct{} // filled by those who compute
	running sync.WaitGroup
}

// handshake is one of them. Its loop starts it, feeds it and gets its letters; its goroutine owns tls until done.
type handshake struct {
	c       *conn
	all     *handshakes
	tls     *tls.Conn
	pipe    *tlsPipe
	started bool          // loop only
	wake    chan struct{} // one token: there is input, or it failed
	gone    chan struct{} // closed by fail

	mu     sync.Mutex // guards what follows
	in     []byte     // from the socket
	out    []byte     // to it
	full   bool       // enough is staged: the connection is not read
	failed error      // why the loop gave it up
	done   bool
	err    error // valid once done
}

func newHandshake(c *conn, all *handshakes, config *tls.Config) *handshake {
	hs := &handshake{c: c, all: all, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	hs.pipe = &tlsPipe{hs: hs}
	hs.tls = tls.Server(hs.pipe, config)
	return hs
}

// feed stages input and starts the goroutine when there is something to work on. Loop only.
func (hs *handshake) feed(p []byte) {
	hs.mu.Lock()
	hs.in = append(hs.in, p...)
	full := len(hs.in) >= handshakeStaged
	hs.full = full
	start := !hs.started && wholeRecord(hs.in)
	hs.mu.Unlock()
	if start {
		hs.started = true
		hs.all.running.Add(1)
		go hs.run()
	}
	hs.nudge()
	if full {
		hs.c.pause(pauseUpgrade)
	}
}

// wholeRecord tells that p begins with a whole TLS record of a handshake, or with something else, which is then refused
// in the words of crypto/tls.
func wholeRecord(p []byte) bool {
	if len(p) < tlsRecordHead {
		return false
	}
	return p[0] != tlsHandshakeType || len(p) >= min(tlsRecordHead+int(binary.BigEndian.Uint16(p[3:])), handshakeStaged)
}

func (hs *handshake) nudge() {
	select {
	case hs.wake <- struct{}{}:
	default: // the token is there
	}
}

// fail gives the handshake up for a reason of the loop's; without a goroutine it reports false, and nothing follows.
// Otherwise the letter that it is done does. Loop only, more than once has no effect.
func (hs *handshake) fail(err error) bool {
	hs.mu.Lock()
	first := hs.failed == nil
	if first {
		hs.failed = err
	}
	hs.mu.Unlock()
	if first {
		close(hs.gone)
		hs.nudge()
	}
	return hs.started
}

// take gives the loop what there is to send, and whether it was the last. Loop only.
func (hs *handshake) take() (out []byte, done bool, err error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	out, hs.out = hs.out, nil
	if hs.full && (hs.done || len(hs.in) == 0) {
		hs.full = false
		hs.c.resume(pauseUpgrade)
	}
	return out, hs.done, hs.err
}

// rest is the input that the handshake did not need. Loop only, when done.
func (hs *handshake) rest() []byte { return hs.in }

// run is the goroutine.
func (hs *handshake) run() {
	defer hs.all.running.Done()
	err := hs.compute()
	hs.mu.Lock()
	hs.pipe.hs = nil // from here on the pipe is the loop's: done publishes it
	hs.done, hs.err = true, err
	hs.mu.Unlock()
	hs.post()
}

func (hs *handshake) compute() (err error) {
	err = hs.enter()
	defer hs.leave()
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			hs.c.l.srv.panics.Add(1)
			hs.c.l.log(LogError, "CLIENT(%s): panic in a TLS handshake: %v\n%s", hs.c.remote, r, debug.Stack())
			err = fmt.Errorf("internal error")
		}
	}()
	return hs.tls.Handshake()
}

// enter waits for leave to compute. It is given even with an error.
func (hs *handshake) enter() error {
	select {
	case hs.all.slots <- struct{}{}:
		return nil
	case <-hs.gone:
	}
	hs.all.slots <- struct{}{} // whoever computes soon leaves
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.failed
}

func (hs *handshake) leave() { <-hs.all.slots }

func (hs *handshake) post() { hs.c.l.mail.post(letter{kind: letterHandshake, hs: hs}) }

// read is a read of crypto/tls. When it has to wait, what was written goes out first, and another may compute.
func (hs *handshake) read(b []byte) (int, error) {
	for {
		hs.mu.Lock()
		n := copy(b, hs.in)
		hs.in = hs.in[n:]
		if len(hs.in) == 0 {
			hs.in = nil
		}
		err, post := hs.failed, len(hs.out) > 0 || hs.full
		hs.mu.Unlock()
		if err != nil || n > 0 {
			return n, err
		}
		if post {
			hs.post()
		}
		hs.leave()
		<-hs.wake
		if err := hs.enter(); err != nil {
			return 0, err
		}
	}
}

func (hs *handshake) write(b []byte) {
	hs.mu.Lock()
	hs.out = append(hs.out, b...)
	hs.mu.Unlock()
}
