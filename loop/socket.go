package loop

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lastWords is the socket of a connection whose peer sent its last byte and whose engine has closed the descriptor,
// while answers are still owed: a duplicate that is only written to. Owned by the loop.
type lastWords int

func duplicate(fd int) (socket, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dup: %w", err)
	}
	return lastWords(dup), nil
}

func (s lastWords) descriptor() int { return int(s) }

// setReading has nothing to do: there is nothing left to read.
func (s lastWords) setReading(bool) error { return nil }

// close gives up the descriptor. A failed close(2) has given it up as well, and a socket has no data to lose by it.
func (s lastWords) close() { _ = unix.Close(int(s)) }

// discardInput drops what the kernel holds of a connection that is about to be closed. Closing with unread input makes
// TCP send a reset, which can overtake the error frame just written.
func discardInput(fd int) {
	var sink [4096]byte
	for range discardMax / len(sink) {
		if n, err := unix.Read(fd, sink[:]); n <= 0 || err != nil {
			return
		}
	}
}

const discardMax = 256 << 10
