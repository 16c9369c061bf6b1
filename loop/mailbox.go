package loop

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/nsqloop/nsqloop/fanout"
)

// flags are things for a loop to look at that need no letter of their own: raising one twice is raising it once.
type flags uint8

const (
	flagTimer flags = 1 << iota // the wheel has something due
	flagAcks                    // some Ack settled: look through the waiting reply queues
	flagDrain                   // close every connection
	flagProbe                   // say that the loop is alive
)

type letterKind uint8

const (
	letterWake      letterKind = iota + 1 // ch may have something for its consumers here
	letterChanged                         // ch was emptied, paused or unpaused
	letterGone                            // ch was deleted
	letterSlow                            // the publishes of job are done
	letterAuth                            // the question auth is answered
	letterHandshake                       // hs has something to send, or is done
	letterStats                           // fill in req
)

// letter is one message to a loop. Which fields are set depends on its kind.
type letter struct {
	kind letterKind
	ch   *fanout.Channel
	job  *slowJob
	auth *authQuery
	hs   *handshake
	req  *statsRequest
}

// mailbox carries what other goroutines have to say to a loop, in order. Anyone may post; only the loop takes. The
// doorbell (a system call) is rung only when the mailbox was empty.
type mailbox struct {
	mu      sync.Mutex
	letters []letter
	flags   flags
	closed  bool

	ring    func()
	ringing atomic.Int32 // calls of ring under way: close waits for them, the bell's descriptor dies after it

	taken []letter // owned by the loop: the other half of the swap
}

// post reports false when the mailbox is closed: the loop is gone, or as good as.
func (m *mailbox) post(x letter) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	first := len(m.letters) == 0 && m.flags == 0
	m.letters = append(m.letters, x)
	return m.unlockAndRing(first)
}

func (m *mailbox) raise(f flags) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	first := len(m.letters) == 0 && m.flags == 0
	m.flags |= f
	return m.unlockAndRing(first)
}

func (m *mailbox) unlockAndRing(first bool) bool {
	if !first {
		m.mu.Unlock()
		return true
	}
	m.ringing.Add(1)
	m.mu.Unlock()
	m.ring()
	m.ringing.Add(-1)
	return true
}

// take empties the mailbox. The letters are the loop's until done.
func (m *mailbox) take() ([]letter, flags) {
	m.mu.Lock()
	letters, f := m.letters, m.flags
	m.letters, m.flags = m.taken[:0], 0
	m.mu.Unlock()
	m.taken = nil
	return letters, f
}

// lettersKept bounds what a mailbox keeps of a burst.
const lettersKept = 4096

// done gives the slice back that take returned.
func (m *mailbox) done(letters []letter) {
	clear(letters)
	if cap(letters) <= lettersKept {
		m.taken = letters[:0]
	}
}

// close makes the mailbox refuse everything and gives out what is still in it. When it returns, the bell rings no more.
func (m *mailbox) close() []letter {
	m.mu.Lock()
	rest := m.letters
	m.letters, m.flags, m.closed = nil, 0, true
	m.mu.Unlock()
	for m.ringing.Load() != 0 {
		runtime.Gosched()
	}
	return rest
}
