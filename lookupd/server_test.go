package lookupd

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func (l *memoryLog) Debugf(format string, args ...any) { l.add("DEBUG", format, args) }
func (l *memoryLog) Infof(format string, args ...any)  { l.add("INFO", format, args) }
func (l *memoryLog) Warnf(format string, args ...any)  { l.add("WARNING", format, args) }
func (l *memoryLog) Errorf(format string, args ...any) { l.add("ERROR", format, args) }

func (l *memoryLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// waitFor waits for a line that contains text.
func (l *memoryLog) waitFor(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(l.all(), "\n"), text) }, 10*time.Second, time.Millisecond,
		"%s", text)
}

type fixture struct {
	*Registry
	log    *memoryLog
	addr   string
	server *Server
}

func serve(t *testing.T, change func(*ServerOptions)) *fixture {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fixture{Registry: newTestRegistry(), log: &memoryLog{}, addr: listener.Addr().String()}
	o := ServerOptions{
		Registry: f.Registry, Log: f.log, BroadcastAddress: "here", Hostname: "host2", TCPPort: 4160, HTTPPort: 4161, Version: "1.3.0",
		MagicTimeout: 10 * time.Second, MaxLineSize: 256, MaxIdentifySize: 1024,
	}
	if change != nil {
		change(&o)
	}
	f.server = NewServer(listener, o)
	f.server.Start()
	t.Cleanup(func() { require.NoError(t, f.server.Stop()) })
	return f
}

func (f *fixture) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", f.addr)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
}

func reply(t *testing.T, c net.Conn) string {
	t.Helper()
	text, err := ReadReply(c, 1<<20)
	require.NoError(t, err)
	return string(text)
}

// ended requires an orderly close.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func sized(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

const (
	goodIdentity = `{"broadcast_address":"host1","hostname":"host1","http_port":4151,"tcp_port":4150,"topology_region":"","topology_zone":"","version":"1.3.0"}`
	ourIdentity  = `{"broadcast_address":"here","hostname":"host2","http_port":4161,"tcp_port":4160,"version":"1.3.0"}`
)

// anyIdentity is the answer of any nsqlookupd: the keys and their order are the protocol, the values its own.
var anyIdentity = regexp.MustCompile(`^\{"broadcast_address":"[^"]*","hostname":"[^"]*","http_port":\d+,"tcp_port":\d+,"version":"1\.3\.0[^"]*"\}$`)

var identified = "IDENTIFY\n" + sized(goodIdentity)

// Each conversation is sent whole and byte by byte. They also run against any nsqlookupd:
//
//	PEER_LOOKUP_TCP=127.0.0.1:4160 go test ./lookupd -run TestConversations
var conversations = []struct {
	name   string
	send   string
	half   bool // then shut down the sending side
	want   []string
	closes bool
	ours   string // why a stock nsqlookupd must not be asked, see COMPATIBILITY.md
}{
	// rows: l1.1.command l1.2.ping
	{name: "ping before identify", send: "PING\nPING x y\n \tPING\r\n", want: []string{"OK", "OK", "OK"}},
	// rows: l1.1.magic l1.1.reply l1.2.identify l1.2.register l1.2.unregister-channel l1.2.unregister-topic l6#1
	{name: "all commands", send: identified + "PING\nREGISTER t\nREGISTER t c\nREGISTER t c d\nREGISTER t  \nUNREGISTER t c\nUNREGISTER t\nUNREGISTER t\n",
		want: []string{ourIdentity, "OK", "OK", "OK", "OK", "OK", "OK", "OK", "OK"}},
	// rows: l1.2.register
	{name: "empty channel word", send: identified + "REGISTER t  c\n", want: []string{ourIdentity, "OK"}},
	// rows: l1.3#1 l1.1.command
	{name: "lower case", send: "ping\n", want: []string{"E_INVALID invalid command ping"}, closes: true},
	// rows: l1.3#1
	{name: "empty line", send: "\n", want: []string{"E_INVALID invalid command "}, closes: true},
	// rows: l1.3#2
	{name: "register first", send: "REGISTER\n", want: []string{"E_INVALID client must IDENTIFY"}, closes: true},
	// rows: l1.3#2
	{name: "unregister first", send: "UNREGISTER !\n", want: []string{"E_INVALID client must IDENTIFY"}, closes: true},
	// rows: l1.3#3
	{name: "no topic", send: identified + "REGISTER \n", want: []string{ourIdentity, "E_INVALID REGISTER insufficient number of params"}, closes: true},
	// rows: l1.3#3
	{name: "no topic to take back", send: identified + "UNREGISTER\n", want: []string{ourIdentity, "E_INVALID UNREGISTER insufficient number of params"}, closes: true},
	// rows: l1.3#4 l6#2
	{name: "bad topic", send: identified + "REGISTER a!b c\n", want: []string{ourIdentity, "E_BAD_TOPIC REGISTER topic name 'a!b' is not valid"}, closes: true},
	// rows: l1.3#4
	{name: "empty topic", send: identified + "UNREGISTER  c\n", want: []string{ourIdentity, "E_BAD_TOPIC UNREGISTER topic name '' is not valid"}, closes: true},
	// rows: l1.3#5
	{name: "bad channel", send: identified + "REGISTER t c!\n", want: []string{ourIdentity, "E_BAD_CHANNEL REGISTER channel name 'c!' is not valid"}, closes: true},
	// rows: l1.3#6
	{name: "identify twice", send: identified + "IDENTIFY\n", want: []string{ourIdentity, "E_INVALID cannot IDENTIFY again"}, closes: true},
	// rows: l1.1.body l1.2.identify
	{name: "identify with more words", send: "IDENTIFY a b\n" + sized(goodIdentity), want: []string{ourIdentity}},
	// rows: l1.2.field.required
	{name: "keys in any case, unknown ones", send: "IDENTIFY\n" + sized(`{"Broadcast_Address":"a","TCP_PORT":1,"http_port":-1,"version":"x","other":[],"remote_address":"y"}`),
		want: []string{ourIdentity}},
	// rows: l1.3#7
	{name: "body size cut off", send: "IDENTIFY\n\x00\x00", half: true, want: []string{"E_BAD_BODY IDENTIFY failed to read body size"}, closes: true},
	// rows: l1.3#8
	{name: "body cut off", send: "IDENTIFY\n\x00\x00\x00\x09{}", half: true, want: []string{"E_BAD_BODY IDENTIFY failed to read body"}, closes: true},
	// rows: l1.3#body-length
	{name: "negative body", send: "IDENTIFY\n\xff\xff\xff\xff", want: []string{"E_BAD_BODY IDENTIFY failed to read body"}, closes: true,
		ours: "it crashes"},
	// rows: l1.3#body-length
	{name: "huge body", send: "IDENTIFY\n\x7f\xff\xff\xff", want: []string{"E_BAD_BODY IDENTIFY failed to read body"}, closes: true,
		ours: "it allocates and waits"},
	// rows: l1.3#9
	{name: "empty body", send: "IDENTIFY\n\x00\x00\x00\x00", want: []string{"E_BAD_BODY IDENTIFY failed to decode JSON body"}, closes: true},
	// rows: l1.3#9
	{name: "wrong type", send: "IDENTIFY\n" + sized(`{"broadcast_address":"a","tcp_port":"1","http_port":2,"version":"x"}`),
		want: []string{"E_BAD_BODY IDENTIFY failed to decode JSON body"}, closes: true},
	// rows: l1.3#10
	{name: "null", send: "IDENTIFY\n" + sized(`null`), want: []string{"E_BAD_BODY IDENTIFY missing fields"}, closes: true},
	// rows: l1.3#10 l1.2.field.required l6#3
	{name: "no http port", send: "IDENTIFY\n" + sized(`{"broadcast_address":"a","tcp_port":1,"version":"x"}`),
		want: []string{"E_BAD_BODY IDENTIFY missing fields"}, closes: true},
	// rows: l1.3#10 l1.2.field.required
	{name: "no tcp port", send: "IDENTIFY\n" + sized(`{"broadcast_address":"a","tcp_port":0,"http_port":1,"version":"x"}`),
		want: []string{"E_BAD_BODY IDENTIFY missing fields"}, closes: true},
	// rows: l1.3#10 l1.2.field.required
	{name: "no address", send: "IDENTIFY\n" + sized(`{"broadcast_address":"","tcp_port":1,"http_port":1,"version":"x"}`),
		want: []string{"E_BAD_BODY IDENTIFY missing fields"}, closes: true},
	// rows: l1.3#10 l1.2.field.required
	{name: "no version", send: "IDENTIFY\n" + sized(`{"broadcast_address":"a","tcp_port":1,"http_port":1}`),
		want: []string{"E_BAD_BODY IDENTIFY missing fields"}, closes: true},
	// rows: l1.3#5
	{name: "bad channel to take back", send: identified + "UNREGISTER t c!\n",
		want: []string{ourIdentity, "E_BAD_CHANNEL UNREGISTER channel name 'c!' is not valid"}, closes: true},
	// rows: l1.1.command
	{name: "line without end", send: "PING\nPIN", half: true, want: []string{"OK"}, closes: true},
	// rows: l1.1#line-length
	{name: "line too long", send: "PING\n" + strings.Repeat("x", 256), want: []string{"OK", "E_INVALID command line too long"}, closes: true,
		ours: "it has no limit"},
}

func TestConversations(t *testing.T) {
	for _, c := range conversations {
		for _, bytewise := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", c.name, bytewise), func(t *testing.T) {
				f := &fixture{addr: os.Getenv("PEER_LOOKUP_TCP")}
				peer := f.addr != ""
				switch {
				case peer && c.ours != "":
					t.Skip(c.ours)
				case !peer:
					f = serve(t, nil)
				}
				conn := f.dial(t)
				raw := "  V1" + c.send
				if bytewise {
					for i := range len(raw) {
						send(t, conn, raw[i:i+1])
					}
				} else {
					send(t, conn, raw)
				}
				if c.half {
					require.NoError(t, conn.CloseWrite())
				}
				for _, want := range c.want {
					got := reply(t, conn)
					if peer && want == ourIdentity {
						got = anyIdentity.ReplaceAllString(got, want)
					}
					require.Equal(t, want, got)
				}
				if c.closes && peer {
					// With unread input its close is a reset.
					_, err := conn.Read(make([]byte, 1))
					require.Error(t, err)
					return
				}
				if c.closes {
					ended(t, conn)
					return
				}
				send(t, conn, "PING\n")
				require.Equal(t, "OK", reply(t, conn))
			})
		}
	}
}

func TestMagic(t *testing.T) {
	f := serve(t, nil)
	c := f.dial(t)
	send(t, c, "  V2")
	require.Equal(t, "E_BAD_PROTOCOL", reply(t, c))
	ended(t, c)
	c = f.dial(t)
	send(t, c, "  V")
	require.NoError(t, c.CloseWrite())
	ended(t, c)
	f.log.waitFor(t, "ERROR failed to read protocol version - unexpected EOF")
	f.log.waitFor(t, "bad protocol magic '  V2'")
}

func TestSilentConnectionsEnd(t *testing.T) {
	f := serve(t, func(o *ServerOptions) { o.MagicTimeout = 20 * time.Millisecond })
	ended(t, f.dial(t))
	c := f.dial(t)
	send(t, c, "  V1PING\n")
	require.Equal(t, "OK", reply(t, c))
	time.Sleep(50 * time.Millisecond) // longer than what a connection has before the magic
	send(t, c, "PING\n")
	require.Equal(t, "OK", reply(t, c))
}

func TestClosedConnectionTakesEverythingBack(t *testing.T) {
	f := serve(t, nil)
	c := f.dial(t)
	send(t, c, "  V1"+identified+"REGISTER t c\nREGISTER u#ephemeral\n")
	for range 3 {
		reply(t, c)
	}
	require.Equal(t, []string{"host1"}, found(t, f.Registry, "t"))
	addr := c.LocalAddr().String()
	require.NoError(t, c.Close())
	f.log.waitFor(t, "ERROR client("+addr+") - EOF")
	require.Empty(t, found(t, f.Registry, "t"))
	require.Equal(t, []string{"t", "u#ephemeral"}, f.Topics())
	lines := strings.Join(f.log.all(), "\n")
	require.Contains(t, lines, "INFO PROTOCOL(V1): ["+addr+"] exiting ioloop\nINFO DB: client("+addr+") UNREGISTER category:client key: subkey:\n"+
		"INFO DB: client("+addr+") UNREGISTER category:channel key:t subkey:c\nINFO DB: client("+addr+") UNREGISTER category:topic key:t subkey:\n")
}

func TestTooManyConnections(t *testing.T) {
	f := serve(t, func(o *ServerOptions) { o.MaxConnections = 1 })
	c := f.dial(t)
	send(t, c, "  V1PING\n")
	require.Equal(t, "OK", reply(t, c))
	ended(t, f.dial(t))
	require.NoError(t, c.Close())
	f.log.waitFor(t, "EOF")
	require.Eventually(t, func() bool {
		next := f.dial(t)
		if _, err := io.WriteString(next, "  V1PING\n"); err != nil {
			return false
		}
		text, err := ReadReply(next, 100)
		return err == nil && string(text) == "OK"
	}, 10*time.Second, time.Millisecond)
}

func TestTooManyTopicsKeepTheConnection(t *testing.T) {
	f := serve(t, func(o *ServerOptions) {
		o.Registry = NewRegistry(RegistryOptions{InactiveProducerTimeout: time.Minute, MaxTopics: 1, MaxChannels: 1})
	})
	c := f.dial(t)
	send(t, c, "  V1"+identified+"REGISTER t c\nREGISTER u\nREGISTER t d\nPING\n")
	for _, want := range []string{ourIdentity, "OK", "E_TOO_MANY_TOPICS", "E_TOO_MANY_CHANNELS", "OK"} {
		require.Equal(t, want, reply(t, c))
	}
}

// A client that sends and never reads must hold up nobody, not even the stop of the server.
func TestClientThatNeverReads(t *testing.T) {
	f := serve(t, nil)
	c := f.dial(t)
	require.NoError(t, c.SetReadBuffer(4096))
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	send(t, c, "  V1")
	for {
		if _, err := io.WriteString(c, strings.Repeat("PING\n", 4096)); err != nil {
			break
		}
	}
	other := f.dial(t)
	send(t, other, "  V1"+identified)
	require.Equal(t, ourIdentity, reply(t, other))
}
