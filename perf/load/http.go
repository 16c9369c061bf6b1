package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/nsqloop/nsqloop/codec"
)

// HTTPPublisher describes a load of POSTs on kept connections, each waiting for its answer.
type HTTPPublisher struct {
	Addr     string
	Topic    string
	Conns    int
	Messages int // over all connections; a multiple of Conns times Batch
	Size     int // bytes of each body
	Batch    int // messages of one binary /mpub; 0 publishes with /pub
}

// HTTPPrepared is a load with its connections open and its requests encoded.
type HTTPPrepared struct {
	HTTPPublisher
	conns []net.Conn
	pools [][]byte // of each connection: equally long requests
	size  int      // of a request
}

// Prepare connects and encodes. Close must be called.
func (p HTTPPublisher) Prepare(ctx context.Context) (*HTTPPrepared, error) {
	prepared := &HTTPPrepared{HTTPPublisher: p}
	random := rand.NewChaCha8([32]byte{})
	var dialer net.Dialer
	for range p.Conns {
		conn, err := dialer.DialContext(ctx, "tcp", p.Addr)
		if err != nil {
			prepared.Close()
			return nil, err
		}
		first := p.encode(nil, random)
		prepared.size = len(first)
		pool := first
		for n := 1; n < p.requests() && len(pool) < poolBytes; n++ {
			pool = p.encode(pool, random)
		}
		prepared.conns, prepared.pools = append(prepared.conns, conn), append(prepared.pools, pool)
	}
	return prepared, nil
}

// requests of one connection.
func (p HTTPPublisher) requests() int { return p.Messages / p.Conns / max(1, p.Batch) }

func (p HTTPPublisher) encode(dst []byte, random *rand.ChaCha8) []byte {
	bodies := make([][]byte, max(1, p.Batch))
	for i := range bodies {
		bodies[i] = make([]byte, p.Size)
		_, _ = random.Read(bodies[i]) // never fails
	}
	if p.Batch == 0 {
		return AppendPost(dst, "/pub?topic="+p.Topic, bodies[0])
	}
	// The body is that of an MPUB command, behind its line and its size.
	command := codec.AppendMpub(nil, p.Topic, bodies)
	body := command[bytes.IndexByte(command, '\n')+1+4:]
	return AppendPost(dst, "/mpub?binary=true&topic="+p.Topic, body)
}

// AppendPost adds a request as a plain client writes it.
func AppendPost(dst []byte, target string, body []byte) []byte {
	dst = fmt.Appendf(dst, "POST %s HTTP/1.1\r\nHost: nsqd\r\nContent-Length: %d\r\n\r\n", target, len(body))
	return append(dst, body...)
}

// Close closes the connections.
func (p *HTTPPrepared) Close() {
	for _, conn := range p.conns {
		_ = conn.Close() // after the last answer nothing is left to lose
	}
}

// Run publishes everything and returns when the last answer has arrived.
func (p *HTTPPrepared) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, conn := range p.conns {
		unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
		group.Go(func() error {
			defer unhook()
			if err := p.publish(conn, p.pools[i]); err != nil {
				return fmt.Errorf("POST: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (p *HTTPPrepared) publish(conn net.Conn, pool []byte) error {
	in := make([]byte, ReplyRoom)
	for n, at := 0, 0; n < p.requests(); n++ {
		status, err := Exchange(conn, pool[at:at+p.size], in)
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("status %d", status)
		}
		if at += p.size; at == len(pool) {
			at = 0
		}
	}
	return nil
}

// Reply is the HTTP reply at the beginning of in: its status and body, and its size, which is 0 if it is not whole. A reply without a
// length is an error.
func Reply(in []byte) (status int, body []byte, size int, err error) {
	const statusAt, name = len("HTTP/1.1 "), "\r\nContent-Length: "
	head, rest, whole := bytes.Cut(in, []byte("\r\n\r\n"))
	if !whole {
		return 0, nil, 0, nil
	}
	if len(head) < statusAt+3 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, nil, 0, fmt.Errorf("the broker answers %.120q", in)
	}
	if status, err = strconv.Atoi(string(head[statusAt : statusAt+3])); err != nil {
		return 0, nil, 0, err
	}
	at := bytes.Index(head, []byte(name))
	if at < 0 {
		return 0, nil, 0, fmt.Errorf("a reply without a length: %.120q", in)
	}
	value, _, _ := bytes.Cut(head[at+len(name):], []byte("\r\n"))
	length, err := strconv.Atoi(string(value))
	if err != nil || len(rest) < length {
		return 0, nil, 0, err
	}
	return status, rest[:length], len(head) + 4 + length, nil
}

// ReplyRoom is enough for a reply with a short body.
const ReplyRoom = 4096

// Exchange sends one whole request and waits for its answer, for which in must have room.
func Exchange(conn net.Conn, request, in []byte) (status int, err error) {
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	for have := 0; have < len(in); {
		n, err := conn.Read(in[have:])
		if err != nil {
			return 0, err
		}
		have += n
		if status, _, size, err := Reply(in[:have]); size > 0 || err != nil {
			return status, err
		}
	}
	return 0, fmt.Errorf("the reply begins with %.120q", in)
}

// Post is an Exchange of a request without a body, whose answer must be 200.
func Post(conn net.Conn, target string) error {
	status, err := Exchange(conn, AppendPost(nil, target, nil), make([]byte, ReplyRoom))
	if err == nil && status != 200 {
		err = fmt.Errorf("POST %s: status %d", target, status)
	}
	return err
}
