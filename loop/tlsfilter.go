package loop

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// tlsFilter runs crypto/tls over a connection in memory. After the handshake crypto/tls takes an error that calls itself
// temporary as a pause: it keeps the start of a record and goes on with the next call. A test pins that for the Go
// release.
type tlsFilter struct {
	conn *tls.Conn
	pipe *tlsPipe
}

// owedMax bounds what one Decode lets the peer provoke: each of its key updates asks for one of ours.
const owedMax = 1 << 10

// Decode opens the records of wire.
func (f *tlsFilter) Decode(dst, wire []byte) (out []byte, used int, more bool, err error) {
	p := f.pipe
	p.in = wire
	for {
		if len(dst) == cap(dst) || len(p.out) > owedMax && len(p.in) > 0 {
			more = true
			break
		}
		var n int
		n, err = f.conn.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err != nil {
			if errors.Is(err, errWouldBlock) {
				err = nil
			}
			break
		}
	}
	used = len(wire) - len(p.in)
	p.in = nil
	return dst, used, more, err
}

// Encode makes records of up to 16 KiB, behind what is owed.
func (f *tlsFilter) Encode(dst, plain []byte) ([]byte, error) {
	p := f.pipe
	owed := p.out
	p.out = append(dst, owed...)
	var err error
	if len(plain) > 0 {
		_, err = f.conn.Write(plain)
	}
	dst, p.out = p.out, owed[:0]
	return dst, err
}

// Owes is true after alerts and the peer's key updates.
func (f *tlsFilter) Owes() bool { return len(f.pipe.out) > 0 }

// End appends close_notify.
func (f *tlsFilter) End(dst []byte) []byte {
	p := f.pipe
	p.out = append(dst, p.out...)
	if err := f.conn.CloseWrite(); err != nil { // only a stream that is broken already cannot be ended
		p.out = p.out[:len(dst)]
	}
	dst, p.out = p.out, nil
	return dst
}

// Weight of AES with hardware; ChaCha20 is some three times dearer.
func (f *tlsFilter) Weight() int { return 1 }

// Close has nothing to give back.
func (f *tlsFilter) Close() {}

// tlsPipe is what crypto/tls takes for the network. During the handshake it belongs to the goroutine of that and passes
// everything to hs; then to the connection's loop.
type tlsPipe struct {
	hs  *handshake
	in  []byte // lent for one Decode
	out []byte // for the next Encode
}

// wouldBlock is the error of a read that finds nothing. crypto/tls remembers every error but a temporary one.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no more input at hand" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

func (p *tlsPipe) Read(b []byte) (int, error) {
	if p.hs != nil {
		return p.hs.read(b)
	}
	if len(p.in) == 0 {
		return 0, errWouldBlock
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *tlsPipe) Write(b []byte) (int, error) {
	if p.hs != nil {
		p.hs.write(b)
	} else {
		p.out = append(p.out, b...)
	}
	return len(b), nil
}

// Close does nothing: the loop closes connections.
func (p *tlsPipe) Close() error { return nil }

// LocalAddr, RemoteAddr and the deadlines are there for the interface; crypto/tls has no use for the former and sets the
// latter only around its last alert.
func (p *tlsPipe) LocalAddr() net.Addr { return pipeAddr{} }

// RemoteAddr is not known here.
func (p *tlsPipe) RemoteAddr() net.Addr { return pipeAddr{} }

// SetDeadline has no effect: reads and writes return at once.
func (p *tlsPipe) SetDeadline(time.Time) error { return nil }

// SetReadDeadline has no effect.
func (p *tlsPipe) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline has no effect.
func (p *tlsPipe) SetWriteDeadline(time.Time) error { return nil }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
