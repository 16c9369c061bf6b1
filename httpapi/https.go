package httpapi

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// handshakeTimeout is how long a TLS handshake may take.
const handshakeTimeout = 5 * time.Second

// AddTLS makes the server answer on listener too, by HTTPS. Only so many handshakes compute at the same time; 0: twice the processors.
// Called before Start; the server owns listener from now on.
func (s *Server) AddTLS(listener net.Listener, config *tls.Config, handshakes int) {
	if handshakes == 0 {
		handshakes = 2 * runtime.GOMAXPROCS(0)
	}
	l := newPatient("HTTPS", listener, s.o.Log)
	l.secure = &security{config: config, slots: make(chan struct{}, handshakes), log: s.o.Log}
	s.listeners = append(s.listeners, l)
}

// security is what a listener needs for TLS.
type security struct {
	config *tls.Config
	slots  chan struct{} // filled by handshakes that compute
	log    Logger
}

// secureConn is a connection with TLS. fasthttp calls Handshake first of all.
type secureConn struct {
	*tls.Conn
	below *conn
	gate  *gated
	by    *security

	failed bool
}

// Read fails after a failed handshake, which fasthttp takes no notice of, in a way that is not logged again.
func (c *secureConn) Read(p []byte) (int, error) {
	if c.failed {
		return 0, errHandshake
	}
	return c.Conn.Read(p)
}

func (s *security) wrap(c *conn) *secureConn {
	gate := &gated{Conn: c, slots: s.slots}
	return &secureConn{Conn: tls.Server(gate, s.config), below: c, gate: gate, by: s}
}

// errHandshake ends a connection whose handshake failed, which has been logged.
var errHandshake = errors.New("TLS handshake failed")

func isHandshake(arg any) bool {
	err, ok := arg.(error)
	return ok && errors.Is(err, errHandshake)
}

// Handshake ends in time and tells whoever speaks plain HTTP that this is the wrong port.
func (c *secureConn) Handshake() error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		c.failed = true
		return errHandshake
	}
	c.gate.slots <- struct{}{}
	c.gate.shut = true
	err := c.Conn.Handshake()
	c.gate.shut = false
	<-c.gate.slots
	if err == nil {
		return c.SetDeadline(time.Time{})
	}
	c.failed = true
	reason := err.Error()
	var header tls.RecordHeaderError
	if errors.As(err, &header) && header.Conn != nil && looksLikeHTTP(header.RecordHeader) {
		reason = "client sent an HTTP request to an HTTPS server"
		c.below.linger.Store(true)
		if _, err := io.WriteString(c.below, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"); err != nil {
			reason += ", and took no answer: " + err.Error()
		}
	}
	c.by.log.Warnf("http: TLS handshake error from %s: %s", c.RemoteAddr(), reason)
	return errHandshake
}

func looksLikeHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// gated is the connection below a handshake. While shut, whoever waits for the client lets others compute.
type gated struct {
	net.Conn
	slots chan struct{}
	shut  bool // owned by the connection's goroutine
}

func (g *gated) Read(p []byte) (int, error) {
	if !g.shut {
		return g.Conn.Read(p)
	}
	<-g.slots
	n, err := g.Conn.Read(p)
	g.slots <- struct{}{}
	return n, err
}

// refusesPlain answers a request that came without TLS where that is required.
func (s *Server) refusesPlain(ctx *fasthttp.RequestCtx) bool {
	if !s.o.TLSRequired || ctx.IsTLS() {
		return false
	}
	if ctx.Request.Header.ContentLength() != 0 {
		closeUnread(ctx)
	}
	body := `{"message": "TLS_REQUIRED", "https_port": ` + strconv.Itoa(s.o.HTTPSPort) + `}`
	answer := reply{status: fasthttp.StatusForbidden, json: true, body: []byte(body)}
	answer.write(ctx)
	return true
}
