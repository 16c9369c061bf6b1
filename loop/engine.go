package loop

import "net"

// engine is what one loop needs from the machinery that waits for input: gnet on epoll today. It owns one goroutine,
// the loop's, on which it calls the handler.
//
// It only reads and tells. Writing is not its business: a connection writes to its own descriptor from its own loop
// (outbound.go), so an engine must not buffer or reorder output.
type engine interface {
	// start returns when the loop goroutine runs and everything the engine promises was seen to work.
	start(h handler) error

	// enroll hands an accepted connection over and returns after h.opened(c) has run. nc must not be used after it,
	// whatever the result. Any goroutine, not the loop's, never after stop was called.
	enroll(nc net.Conn, c *conn) error

	// ring makes h.rung run soon on the loop, possibly before input that waits. Any goroutine; never after stop was
	// called.
	ring()

	// yield makes h.resumed run when the input that waits has been looked at. Loop goroutine only.
	yield()

	// stop ends the loop goroutine. Every connection must have been closed before.
	stop() error
}

// handler gets an engine's events, on the loop goroutine, one after the other.
type handler interface {
	opened(c *conn, s socket)

	// readable brings what one read gave, at least one byte. p is the handler's until it returns.
	readable(c *conn, p []byte)

	// closed tells that the peer closed or the connection broke. The descriptor is still open and can be written until
	// closed returns, then the engine closes it. Not called for what socket.close closes.
	closed(c *conn, err error)

	rung()
	resumed()
}

// socket is one connection as its engine sees it. Loop goroutine only.
type socket interface {
	descriptor() int

	// setReading pauses and resumes reading. What the kernel holds meanwhile stays there, so that TCP slows the peer.
	setReading(on bool) error

	// close gives up the descriptor: at once, or at the end of the running readable or opened of this connection.
	close()
}
