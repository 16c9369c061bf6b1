package lookupd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

// session is one connection. Owned by its goroutine.
type session struct {
	s    *Server
	conn net.Conn
	addr string
	in   *bufio.Reader
	out  *bufio.Writer
	peer *Peer // nil before IDENTIFY
}

func newSession(s *Server, conn net.Conn, addr string) *session {
	return &session{
		s: s, conn: conn, addr: addr,
		in:  bufio.NewReaderSize(conn, s.o.MaxLineSize),
		out: bufio.NewWriterSize(deadlineWriter{conn}, 512),
	}
}

// deadlineWriter gives each write its time, so that a client that never reads loses its connection.
type deadlineWriter struct{ net.Conn }

func (w deadlineWriter) Write(b []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

// refusal is a reply after which the connection is closed. cause, if any, is for the log only.
type refusal struct {
	text  string
	cause error
}

func (r *refusal) Error() string { return r.text }

// invalid is an E_INVALID refusal.
func invalid(text string) error { return &refusal{text: "E_INVALID " + text} }

func badBody(text string, cause error) error {
	return &refusal{text: "E_BAD_BODY IDENTIFY " + text, cause: cause}
}

// run serves the connection until it ends, and takes back what it registered.
func (c *session) run() {
	log := c.s.o.Log
	if !c.magic() {
		return
	}
	err := c.commands()
	if flushErr := c.out.Flush(); flushErr != nil && err == nil {
		err = flushErr
	}
	log.Infof("PROTOCOL(V1): [%s] exiting ioloop", c.addr)
	if c.peer != nil {
		gone := c.s.o.Registry.RemovePeer(c.peer)
		log.Infof("DB: client(%s) UNREGISTER category:client key: subkey:", c.addr)
		for _, r := range gone {
			c.logRegistration("UNREGISTER", r)
		}
	}
	log.Errorf("client(%s) - %s", c.addr, err)
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		c.linger()
	}
}

// How long, and for how many bytes, a refused connection is drained before it is closed.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger ends the sending side and drops what is still coming: a plain close with unread input would send a reset, which can take the reply away
// from the client.
func (c *session) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil && c.conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		// Whatever ends the draining (end of input, time, an error), the close that follows is the answer to it.
		_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
	}
}

// magic reads the first four bytes. false: the connection is not for us.
func (c *session) magic() bool {
	log := c.s.o.Log
	var magic [len(codec.LookupMagic)]byte
	if err := c.readFull(magic[:], c.s.o.MagicTimeout); err != nil {
		log.Errorf("failed to read protocol version - %s", err)
		return false
	}
	log.Infof("CLIENT(%s): desired protocol magic '%s'", c.addr, magic[:])
	if string(magic[:]) == codec.LookupMagic {
		return true
	}
	err := c.reply([]byte("E_BAD_PROTOCOL"))
	if err == nil {
		err = c.out.Flush()
	}
	log.Errorf("client(%s) bad protocol magic '%s'", c.addr, magic[:])
	if err == nil {
		c.linger()
	}
	return false
}

// readFull fills b within a time; 0 = any.
func (c *session) readFull(b []byte, within time.Duration) error {
	if within > 0 {
		if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(c.in, b); err != nil {
		return err
	}
	return c.conn.SetReadDeadline(time.Time{})
}

// commands answers line after line. It returns what ended the connection, which is never nil.
func (c *session) commands() error {
	for {
		line, err := c.line()
		if err == nil {
			err = c.exec(codec.ParseLookupLine(line))
		}
		var refused *refusal
		if errors.As(err, &refused) {
			cause := ""
			if refused.cause != nil {
				cause = " - " + refused.cause.Error()
			}
			c.s.o.Log.Errorf("[%s] - %s%s", c.addr, refused.text, cause)
			if sendErr := c.reply([]byte(refused.text)); sendErr != nil {
				return sendErr
			}
		}
		if err != nil {
			return err
		}
	}
}

// line returns the next line, valid until the next read. Replies go out before anything is waited for, and together if more lines are there.
func (c *session) line() ([]byte, error) {
	if buffered, err := c.in.Peek(c.in.Buffered()); err == nil && bytes.IndexByte(buffered, '\n') < 0 {
		if err := c.out.Flush(); err != nil {
			return nil, err
		}
	}
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, invalid("command line too long")
	}
	return line, err
}

func (c *session) reply(body []byte) error {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(body)))
	if _, err := c.out.Write(size[:]); err != nil {
		return err
	}
	_, err := c.out.Write(body)
	return err
}

// exec carries out one command and answers it, unless it is refused.
func (c *session) exec(cmd codec.LookupCommand) error {
	switch cmd.Name {
	case codec.LookupPing:
		if c.peer != nil {
			since := c.s.o.Registry.Ping(c.peer)
			c.s.o.Log.Infof("CLIENT(%s): pinged (last ping %s)", c.addr, since)
		}
	case codec.LookupIdentify:
		return c.identify()
	case codec.LookupRegister:
		topic, channel, err := c.target(cmd)
		if err != nil {
			return err
		}
		added, err := c.s.o.Registry.Register(c.peer, topic, channel)
		if err != nil {
			// The one refusal behind which the connection stays: closing it would take back what is registered.
			c.s.o.Log.Errorf("[%s] - REGISTER %s %s: %s", c.addr, topic, channel, err)
			return c.reply(tooMany(err))
		}
		for _, r := range added {
			c.logRegistration("REGISTER", r)
		}
	case codec.LookupUnregister:
		topic, channel, err := c.target(cmd)
		if err != nil {
			return err
		}
		for _, r := range c.s.o.Registry.Unregister(c.peer, topic, channel) {
			if channel == "" && r.Channel != "" {
				c.s.o.Log.Warnf("client(%s) unexpected UNREGISTER category:channel key:%s subkey:%s", c.addr, r.Topic, r.Channel)
				continue
			}
			c.logRegistration("UNREGISTER", r)
		}
	default:
		return invalid("invalid command " + cmd.Name)
	}
	return c.reply([]byte("OK"))
}

func tooMany(err error) []byte {
	if errors.Is(err, ErrTooManyTopics) {
		return []byte("E_TOO_MANY_TOPICS")
	}
	return []byte("E_TOO_MANY_CHANNELS")
}

// target checks that the peer is known, then the names.
func (c *session) target(cmd codec.LookupCommand) (topic, channel string, err error) {
	if c.peer == nil {
		return "", "", invalid("client must IDENTIFY")
	}
	if topic, channel, err = cmd.Target(); err != nil {
		return "", "", &refusal{text: err.Error()}
	}
	return topic, channel, nil
}

func (c *session) logRegistration(verb string, r Registration) {
	category := "topic"
	if r.Channel != "" {
		category = "channel"
	}
	c.s.o.Log.Infof("DB: client(%s) %s category:%s key:%s subkey:%s", c.addr, verb, category, r.Topic, r.Channel)
}

// identify reads the body and makes the peer known.
func (c *session) identify() error {
	if c.peer != nil {
		return invalid("cannot IDENTIFY again")
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	var prefix [4]byte
	if err := c.readFull(prefix[:], bodyTimeout); err != nil {
		return badBody("failed to read body size", err)
	}
	size := int(int32(binary.BigEndian.Uint32(prefix[:])))
	if size < 0 || size > c.s.o.MaxIdentifySize {
		return badBody("failed to read body", fmt.Errorf("size %d is not within 0 and %d", size, c.s.o.MaxIdentifySize))
	}
	body := make([]byte, size)
	if err := c.readFull(body, bodyTimeout); err != nil {
		return badBody("failed to read body", err)
	}
	var info PeerInfo
	if err := json.Unmarshal(body, &info); err != nil {
		return badBody("failed to decode JSON body", err)
	}
	if info.BroadcastAddress == "" || info.TCPPort == 0 || info.HTTPPort == 0 || info.Version == "" {
		return badBody("missing fields", nil)
	}
	c.s.o.Log.Infof("CLIENT(%s): IDENTIFY Address:%s TCP:%d HTTP:%d Version:%s", c.addr, info.BroadcastAddress, info.TCPPort, info.HTTPPort, info.Version)
	c.peer = c.s.o.Registry.AddPeer(c.addr, info)
	c.s.o.Log.Infof("DB: client(%s) REGISTER category:client key: subkey:", c.addr)
	return c.reply(c.s.identity())
}

// identity is what IDENTIFY is answered with: keys in alphabetical order.
func (s *Server) identity() []byte {
	text, err := json.Marshal(struct {
		BroadcastAddress string `json:"broadcast_address"`
		Hostname         string `json:"hostname"`
		HTTPPort         int    `json:"http_port"`
		TCPPort          int    `json:"tcp_port"`
		Version          string `json:"version"`
	}{s.o.BroadcastAddress, s.o.Hostname, s.o.HTTPPort, s.o.TCPPort, s.o.Version})
	if err != nil {
		panic("BUG: this server's description does not encode: " + err.Error())
	}
	return text
}
