package httpapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header, one per process.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// Its worker pool looks for idle workers every ten seconds and notices only then that it was stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// memoryLog keeps lines for tests to look at.
type memoryLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *memoryLog) add(level, format string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, level+" "+fmt.Sprintf(format, args...))
}

func (l *memoryLog) Infof(format string, args ...any)  { l.add("INFO", format, args) }
func (l *memoryLog) Warnf(format string, args ...any)  { l.add("WARNING", format, args) }
func (l *memoryLog) Errorf(format string, args ...any) { l.add("ERROR", format, args) }

// with returns the lines that contain text.
func (l *memoryLog) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// fixture is a server with a real broker on a disk in memory.
type fixture struct {
	addr    string
	network string
	broker  *fanout.Broker
	server  *Server
	log     *memoryLog

	mu      sync.Mutex
	clients []testClient
	level   string

	lookupds []string
}

// serveOn starts a fixture on an open listener; change may adjust its options.
func serveOn(t *testing.T, listener net.Listener, change func(*Options)) *fixture {
	t.Helper()
	return serveWith(t, listener, change, nil)
}

// serveWith is serveOn with something to do before the server starts.
func serveWith(t *testing.T, listener net.Listener, change func(*Options), prepare func(*Server)) *fixture {
	t.Helper()
	f := &fixture{addr: listener.Addr().String(), network: listener.Addr().Network(), log: &memoryLog{}, level: "info", lookupds: []string{}}
	var err error
	f.broker, err = fanout.Open(mmapq.NewHeapDisk(), mmapq.Options{Node: 7}, fanout.Options{MemQueueSize: 10000, MaxTopics: 10000, MaxChannelsPerTopic: 100})
	require.NoError(t, err)
	o := Options{
		Broker: f.broker, Log: f.log, Clients: f.listClients, Config: f.config, SetLogLevel: f.setLevel, SetLookupds: f.setLookupds,
		Version: "1.3.0+test", Built: "nsqd v1.3.0+test (built w/go1)", StartTime: time.Unix(1795416260, 0),
		Node: Node{BroadcastAddress: "127.0.0.1", HTTPPort: Port(listener), TCPPort: 4150, MaxHeartbeatInterval: time.Minute,
			MaxOutputBufferSize: 65536, MaxOutputBufferTimeout: 30 * time.Second, MaxDeflateLevel: 6, TopologyZone: "<z>"},
		MaxMsgSize: 1 << 20, MaxBodySize: 5 << 20, MaxReqTimeout: time.Hour,
	}
	if change != nil {
		change(&o)
	}
	f.server = New(listener, o)
	if prepare != nil {
		prepare(f.server)
	}
	f.server.Start()
	t.Cleanup(func() {
		require.NoError(t, f.server.Stop())
		require.NoError(t, f.broker.Close())
	})
	return f
}

func newFixture(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	return newFixtureWith(t, change, nil)
}

func newFixtureWith(t *testing.T, change func(*Options), prepare func(*Server)) *fixture {
	t.Helper()
	listener, err := Listen("127.0.0.1:0")
	require.NoError(t, err)
	return serveWith(t, listener, change, prepare)
}

func (f *fixture) listClients() Connections {
	f.mu.Lock()
	defer f.mu.Unlock()
	return clientList{f.broker, append([]testClient(nil), f.clients...)}
}

// testClient is a connection with the names of what it consumes.
type testClient struct {
	Client
	topic, channel string
}

// clientList shows what a test made up.
type clientList struct {
	broker *fanout.Broker
	list   []testClient
}

func (l clientList) Len() int { return len(l.list) }
func (l clientList) Subscription(i int) *fanout.Channel {
	if t := l.broker.LookupTopic(l.list[i].topic); t != nil {
		return t.LookupChannel(l.list[i].channel)
	}
	return nil
}
func (l clientList) Publishes(i int) bool  { return len(l.list[i].Published) > 0 }
func (l clientList) Show(i int, c *Client) { *c = l.list[i].Client }
func (l clientList) Release()              {}

func (f *fixture) config(key string) (any, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	value, ok := map[string]any{
		"log_level": map[string]int{"debug": 1, "info": 2, "warn": 3, "error": 4, "fatal": 5}[f.level], "log_prefix": "[nsqd] ",
		"tls_cert": "", "msg_timeout": time.Minute, "deflate": true, "nsqlookupd_tcp_addresses": f.lookupds, "max_rdy_count": int64(2500),
	}[key]
	return value, ok
}

func (f *fixture) setLookupds(list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookupds = list
}

func (f *fixture) setLevel(word string) error {
	word = strings.ToLower(word)
	if !strings.Contains(" debug info warn error fatal ", " "+word+" ") || word == "" {
		return fmt.Errorf("no level")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.level = word
	return nil
}

// talker is one raw connection.
type talker struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, network, addr string) *talker {
	t.Helper()
	c, err := net.Dial(network, addr)
	require.NoError(t, err)
	// Enough for a loaded machine, and for a stock daemon with a million tiny messages.
	require.NoError(t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	t.Cleanup(func() { c.Close() })
	return &talker{c, bufio.NewReader(c)}
}

func (c *talker) send(t *testing.T, raw string) {
	t.Helper()
	_, err := io.WriteString(c, raw)
	require.NoError(t, err)
}

// answer is a response as it is compared: everything but what differs by nature.
type answer struct {
	status int
	header http.Header
	body   string
	closes bool
}

// read reads the response to a request of the given method.
func (c *talker) read(method string) (answer, error) {
	r, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return answer{}, err
	}
	for _, name := range []string{"Date", "Server", "Connection", "Content-Length", "Transfer-Encoding"} {
		r.Header.Del(name)
	}
	return answer{status: r.StatusCode, header: r.Header, body: string(body), closes: r.Close}, nil
}

// call is one request on its own connection.
func (f *fixture) call(t *testing.T, method, target, body string) answer {
	t.Helper()
	c := dial(t, f.network, f.addr)
	c.send(t, req(method, target, body))
	a, err := c.read(method)
	require.NoError(t, err, "%s %s", method, target)
	require.NoError(t, c.Close())
	return a
}

// req writes a request with a body of known length.
func req(method, target, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
}

// chunked writes a request whose body comes in chunks.
func chunked(method, target string, chunks ...string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", method, target)
	for _, c := range chunks {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(c), c)
	}
	b.WriteString("0\r\n\r\n")
	return b.String()
}
