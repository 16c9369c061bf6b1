package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// timeouts of connections. The stock daemon has none, so the defaults are generous: they end connections that send nothing, not slow ones
// that do.
type timeouts struct {
	header time.Duration // first byte of a request to the end of its header; also for the first step of the body
	body   time.Duration // each further step of a body
	write  time.Duration // an answer
	idle   time.Duration // between two requests of a connection
}

var defaultTimeouts = timeouts{header: 30 * time.Second, body: 30 * time.Second, write: time.Minute, idle: 3 * time.Minute}

// stopTimeout is how long requests in progress may take when the server stops.
const stopTimeout = 5 * time.Second

const (
	headerBytesMax = 16 << 10 // request line and headers
	connectionsMax = 16 << 10 // unless Options say otherwise
)

// Logger takes finished lines without prefix, time or newline. Any goroutine.
type Logger interface {
	Infof(format string, args ...any)
	Warnf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Options is what a Server serves. All of it is fixed while it runs; functions may be called from any goroutine.
type Options struct {
	Broker *fanout.Broker
	Log    Logger

	// Clients lists the TCP connections that /stats shows: consumers, and producers that have published.
	Clients func() Connections
	// Config returns the value of an option by its configuration key; SetLogLevel takes one of the level words.
	Config      func(key string) (any, bool)
	SetLogLevel func(word string) error
	// SetLookupds changes the list of nsqlookupds; nil is an empty list that reads back as null.
	SetLookupds func(addresses []string)

	Version   string // as reported everywhere
	Built     string // "nsqd v… (built w/go…)", first line of the text form of /stats
	StartTime time.Time
	Node      Node

	MaxMsgSize, MaxBodySize int64 // bytes
	MaxReqTimeout           time.Duration
	MaxConnections          int // 0 = 16384; more are turned away with 503

	// Traffic are the figures of the event loops for /metrics; MaxSeries bounds what is told there of topics and channels.
	Traffic   func() Traffic
	MaxSeries int

	SyncPolicy string // as /stats tells it when asked for durability

	// Access writes the line of one request; nil = Log.Infof.
	Access func(format string, args ...any)

	// TLSRequired refuses every request that comes without TLS and names the port that has it; 0 = there is none.
	TLSRequired bool
	HTTPSPort   int

	timeouts    timeouts // zero = the defaults; set by tests
	writeBuffer int      // bytes an answer may have to leave in one write; 0 = 4096
}

// Server is the HTTP API on one listener, or on one without and one with TLS.
type Server struct {
	o         Options
	endpoints endpoints
	fast      *fasthttp.Server
	process   *prometheus.Registry
	expose    func(s *Server, x *exposition) // writes everything /metrics tells
	listeners []*patient
	done      chan struct{} // closed when it no longer serves on one of them
	serving   sync.WaitGroup
	ended     sync.Once
	serveErr  error // valid after done
	startOnce sync.Once
}

// New makes a server of nsqd's API that owns listener from now on. nil: only what AddTLS adds is served.
func New(listener net.Listener, o Options) *Server {
	s := newServer(listener, o, table)
	s.expose = exposeNsqd
	return s
}

// newServer makes a server of the API that table describes.
func newServer(listener net.Listener, o Options, table []route) *Server {
	if o.timeouts == (timeouts{}) {
		o.timeouts = defaultTimeouts
	}
	if o.Access == nil {
		o.Access = o.Log.Infof
	}
	s := &Server{o: o, endpoints: buildEndpoints(table), process: processRegistry(), done: make(chan struct{})}
	if listener != nil {
		s.listeners = append(s.listeners, newPatient("HTTP", listener, o.Log))
	}
	connections := o.MaxConnections
	if connections == 0 {
		connections = connectionsMax
	}
	s.fast = &fasthttp.Server{
		Handler:       s.serve,
		ExpectHandler: s.expect,
		ErrorHandler:  s.badRequest,
		Logger:        warnings{o.Log},
		Concurrency:   connections,

		ReadBufferSize:  headerBytesMax,
		WriteBufferSize: o.writeBuffer,
		ReadTimeout:     o.timeouts.header,
		WriteTimeout:    o.timeouts.write,
		IdleTimeout:     o.timeouts.idle,

		// Handlers read bodies themselves, so that oversize ones are refused unread. 1 is the least fasthttp reads ahead.
		StreamRequestBody:            true,
		MaxRequestBodySize:           1,
		DisablePreParseMultipartForm: true,

		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,
	}
	return s
}

// Start serves in a goroutine of its own.
func (s *Server) Start() {
	s.startOnce.Do(func() {
		for _, l := range s.listeners {
			s.o.Log.Infof("%s: listening on %s", l.name, l.Addr())
			s.serving.Add(1)
			go s.listen(l)
		}
	})
}

// Addr is where the server listens first.
func (s *Server) Addr() net.Addr { return s.listeners[0].Addr() }

// listen serves on one listener until it ends.
func (s *Server) listen(l *patient) {
	defer s.serving.Done()
	err := s.fast.Serve(l)
	s.ended.Do(func() {
		s.serveErr = err
		close(s.done)
	})
}

// Done is closed when the server no longer serves; Err then tells why.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended: nil after Stop.
func (s *Server) Err() error {
	<-s.done
	if s.serveErr == nil || errors.Is(s.serveErr, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("HTTP server ended - %w", s.serveErr)
}

// Stop closes the listener at once, then waits a short while for requests in progress, and closes what is left. After it, nothing of
// this server touches the broker any more, unless a handler is still stuck there, which the error says.
func (s *Server) Stop() error {
	for _, l := range s.listeners {
		s.o.Log.Infof("%s: closing %s", l.name, l.Addr())
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.fast.ShutdownWithContext(ctx)
	s.serving.Wait()
	if err != nil {
		return fmt.Errorf("HTTP: requests still in progress after %s - %w", stopTimeout, err)
	}
	return s.Err()
}

// badRequest answers what fasthttp could not read as a request.
func (s *Server) badRequest(ctx *fasthttp.RequestCtx, err error) {
	var tooBig *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.As(err, &tooBig):
		malformed(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge, "431 Request Header Fields Too Large")
	case errors.As(err, &netErr) && netErr.Timeout():
		malformed(ctx, fasthttp.StatusRequestTimeout, "408 Request Timeout")
	default:
		malformed(ctx, fasthttp.StatusBadRequest, "400 Bad Request")
	}
}

// malformed is an answer below the API: plain text, and the connection ends.
func malformed(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.Response.Reset()
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentType(textType)
	ctx.Response.SetBodyString(text)
	ctx.SetConnectionClose()
}

func isContinue(expectation []byte) bool {
	return strings.EqualFold(string(expectation), "100-continue")
}

// warnings receives fasthttp's own messages.
type warnings struct{ log Logger }

func (w warnings) Printf(format string, args ...any) {
	if len(args) > 0 && isHandshake(args[len(args)-1]) { // logged in the words of the stock daemon
		return
	}
	w.log.Warnf("http: "+format, args...)
}
