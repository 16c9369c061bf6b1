package lookupd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// names is a Directory that tests change.
type names struct {
	mu   sync.Mutex
	list []Registration
}

func (n *names) Registrations() []Registration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.list)
}

func (n *names) Exists(topic, channel string) bool {
	return slices.ContainsFunc(n.Registrations(), func(r Registration) bool { return r.Topic == topic && (channel == "" || r.Channel == channel) })
}

func (n *names) set(list ...Registration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = list
}

type client struct {
	*Peers
	names *names
	log   *memoryLog
}

// newClient has short times, but those a slow machine must keep.
func newClient(t *testing.T, change func(*PeersOptions)) *client {
	t.Helper()
	c := &client{names: &names{}, log: &memoryLog{}}
	o := PeersOptions{
		Log: c.log, Directory: c.names, Identity: []byte(goodIdentity), MaxReplySize: 1 << 20, HTTPConnectTimeout: time.Second,
		HTTPRequestTimeout: 5 * time.Second, timing: defaultTiming(),
	}
	o.timing.retryMin, o.timing.retryMax, o.timing.answer = time.Millisecond, 20*time.Millisecond, 10*time.Second
	if change != nil {
		change(&o)
	}
	c.Peers = NewPeers(o)
	t.Cleanup(c.Stop)
	return c
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, time.Millisecond, what)
}

// rows: l1.5.start l1.5.changes
func TestPeersRegisterEverythingAndChanges(t *testing.T) {
	f, g := serve(t, nil), serve(t, nil)
	c := newClient(t, nil)
	c.names.set(Registration{"t", "c"}, Registration{"t", "d"}, Registration{"u", ""})
	c.Set([]string{f.addr, f.addr})
	eventually(t, "all registered", func() bool { return slices.Equal(f.Topics(), []string{"t", "u"}) })
	eventually(t, "channels too", func() bool { return slices.Equal(f.Channels("t"), []string{"c", "d"}) })
	require.Len(t, f.Nodes(), 1, "an address given twice is one peer")
	require.Equal(t, "host1", f.Nodes()[0].BroadcastAddress)

	c.names.set(Registration{"t", "c"}, Registration{"v", ""})
	for _, r := range []Registration{{"t", "d"}, {"u", ""}, {"v", ""}} {
		c.Announce(r.Topic, r.Channel)
	}
	eventually(t, "changes", func() bool { return slices.Equal(f.Nodes()[0].Topics, []string{"t", "v"}) })
	for _, line := range []string{"channel UNREGISTER t d", "topic UNREGISTER u", "topic REGISTER v", "REGISTER t c"} {
		c.log.waitFor(t, "INFO LOOKUPD("+f.addr+"): "+line)
	}

	c.Set([]string{g.addr})
	eventually(t, "the other one", func() bool { return slices.Equal(g.Topics(), []string{"t", "v"}) })
	eventually(t, "gone from the first", func() bool { return len(f.Nodes()) == 0 })
	for _, line := range []string{
		"LOOKUP(" + f.addr + "): adding peer", "LOOKUP connecting to " + f.addr, "LOOKUP(" + f.addr + "): removing peer",
		"LOOKUPD(" + f.addr + "): peer info {TCPPort:4160 HTTPPort:4161 Version:1.3.0 BroadcastAddress:here}",
	} {
		c.log.waitFor(t, "INFO "+line)
	}
}

// rows: l1.5.again
func TestPeersComeBackAfterALostConnection(t *testing.T) {
	f := serve(t, nil)
	c := newClient(t, nil)
	c.names.set(Registration{"t", "c"})
	c.Set([]string{f.addr})
	for range 3 {
		eventually(t, "registered", func() bool { return len(f.Nodes()) == 1 && slices.Equal(f.Nodes()[0].Topics, []string{"t"}) })
		was := f.Nodes()[0].RemoteAddress
		f.server.mu.Lock()
		for conn := range f.server.conns {
			f.server.closeConn(conn)
		}
		f.server.mu.Unlock()
		eventually(t, "lost", func() bool { return len(f.Nodes()) == 0 || f.Nodes()[0].RemoteAddress != was })
	}
	c.log.waitFor(t, "ERROR LOOKUPD("+f.addr+"): connection - EOF")
}

// rows: l1.5.ping
func TestPeersPing(t *testing.T) {
	f := serve(t, nil)
	c := newClient(t, func(o *PeersOptions) { o.timing.ping = time.Millisecond })
	c.Set([]string{f.addr})
	f.log.waitFor(t, "): pinged (last ping ")
}

// fake is an nsqlookupd that answers what script says to each line; nothing for an empty answer.
func fake(t *testing.T, script func(n int, line string) string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	closing, end := context.WithCancel(context.Background())
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		end()
		running.Wait()
	})
	running.Go(func() {
		for n := 0; ; n++ {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				stop := context.AfterFunc(closing, func() { c.Close() })
				defer stop()
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					line = strings.TrimSpace(strings.TrimPrefix(line, "  V1"))
					if line == "IDENTIFY" {
						if _, err := ReadReply(in, 10000); err != nil {
							return
						}
					}
					if _, err := io.WriteString(c, script(n, line)); err != nil {
						return
					}
				}
			})
		}
	})
	return listener.Addr().String()
}

// What a peer answers, or does not, is its own trouble: the good one beside it hears everything, and announcing does not wait.
//
// rows: l1.5.timeouts l1.5.bad-reply
func TestBadPeersDisturbNobody(t *testing.T) {
	cases := []struct {
		name   string
		answer func(n int, line string) string
		log    string
	}{
		{"silent", func(int, string) string { return "" }, "IDENTIFY - no reply within 100ms"},
		{"no JSON", func(int, string) string { return sized("OK") }, "IDENTIFY - parsing response - \"OK\""},
		{"refuses", func(int, string) string { return sized("E_INVALID") }, "IDENTIFY - lookupd returned E_INVALID"},
		{"negative size", func(int, string) string { return "\xff\xff\xff\xff" }, "response body size (-1) is greater than limit (1048576)"},
		{"huge size", func(int, string) string { return "\x7f\xff\xff\xff" }, "response body size (2147483647) is greater than limit (1048576)"},
		{"stops in the middle", func(_ int, line string) string {
			if line == "IDENTIFY" {
				return sized(ourIdentity)
			}
			return "\x00"
		}, "REGISTER t c - no reply within 100ms"},
		{"talks unasked", func(_ int, line string) string {
			if line == "IDENTIFY" {
				return sized(ourIdentity)
			}
			return sized("OK") + sized("OK") + sized("more")
		}, "a reply nobody asked for"},
	}
	for _, bad := range cases {
		t.Run(bad.name, func(t *testing.T) {
			f := serve(t, nil)
			c := newClient(t, func(o *PeersOptions) { o.timing.answer = 100 * time.Millisecond })
			c.names.set(Registration{"t", "c"})
			c.Set([]string{fake(t, bad.answer), f.addr})
			c.log.waitFor(t, bad.log)
			c.names.set(Registration{"t", "c"}, Registration{"u", ""})
			began := time.Now()
			for range 10000 {
				c.Announce("u", "")
			}
			require.Less(t, time.Since(began), 5*time.Second)
			eventually(t, "the good one knows", func() bool { return slices.Equal(f.Topics(), []string{"t", "u"}) })
		})
	}
}

func TestRefusalsOfCommandsAreLogged(t *testing.T) {
	c := newClient(t, nil)
	c.names.set(Registration{"t", ""})
	c.Set([]string{fake(t, func(_ int, line string) string {
		if line == "IDENTIFY" {
			return sized(ourIdentity)
		}
		return sized("E_TOO_MANY_TOPICS")
	})})
	c.log.waitFor(t, `REGISTER t - answered "E_TOO_MANY_TOPICS"`)
}

func TestNamesAreResolvedAgain(t *testing.T) {
	f := serve(t, nil)
	_, port, err := net.SplitHostPort(f.addr)
	require.NoError(t, err)
	other, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skipf("no second loopback address with the same port: %v", err)
	}
	require.NoError(t, other.Close())
	var mu sync.Mutex
	address := "127.0.0.2"
	c := newClient(t, func(o *PeersOptions) {
		o.timing.resolve = 5 * time.Millisecond
		o.timing.lookup = func(_ context.Context, host string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			if host != "lookup.example" || address == "" {
				return nil, fmt.Errorf("no such host")
			}
			return []string{address}, nil
		}
	})
	set := func(a string) {
		mu.Lock()
		defer mu.Unlock()
		address = a
	}
	c.Set([]string{"lookup.example:" + port})
	c.log.waitFor(t, "IDENTIFY - dial tcp 127.0.0.2:")
	set("127.0.0.1")
	eventually(t, "found after the name moved", func() bool { return len(f.Nodes()) == 1 })
	set("")
	time.Sleep(20 * time.Millisecond) // several looks that fail
	require.Len(t, f.Nodes(), 1, "a name that cannot be looked up means what it meant")
	set("127.0.0.2")
	c.log.waitFor(t, "its name means another address now")
	eventually(t, "left", func() bool { return len(f.Nodes()) == 0 })
}

// web is an nsqlookupd's HTTP side.
func web(t *testing.T, answer http.HandlerFunc) (identityOf func(int, string) string) {
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return func(_ int, line string) string {
		if line == "IDENTIFY" {
			return sized(fmt.Sprintf(`{"broadcast_address":"%s","http_port":%d,"tcp_port":1,"version":"x"}`, host, n))
		}
		return sized("OK")
	}
}

// rows: l1.5.new-topic
func TestChannelsOfANewTopic(t *testing.T) {
	good := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/channels?topic=t%23ephemeral" || r.Header.Get("Accept") != "application/vnd.nsq; version=1.0" {
			w.WriteHeader(http.StatusTeapot)
		}
		fmt.Fprint(w, `{"channels":["b","a","c#ephemeral","not a name"]}`)
	})
	also := web(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"channels":["a","z"]}`) })
	broken := web(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	lying := web(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("x", 2000)) })

	c := newClient(t, func(o *PeersOptions) { o.MaxReplySize = 1000 })
	require.False(t, c.Any())
	names, asked := c.Channels("t")
	require.False(t, asked)
	require.Empty(t, names)
	var addrs []string
	for _, w := range []func(int, string) string{good, also, broken, lying} {
		addrs = append(addrs, fake(t, w))
	}
	c.Set(addrs)
	require.True(t, c.Any())
	for _, addr := range addrs {
		c.log.waitFor(t, "LOOKUPD("+addr+"): peer info")
	}
	eventually(t, "identified", func() bool {
		return !slices.ContainsFunc(*c.list.Load(), func(p *peer) bool { return p.identity.Load() == nil })
	})
	names, asked = c.Channels("t#ephemeral")
	require.True(t, asked)
	require.Equal(t, []string{"a", "b", "z"}, names)
	lines := strings.Join(c.log.all(), "\n")
	require.Contains(t, lines, "WARNING failed to query nsqlookupd for channels to pre-create for topic t#ephemeral - got response 500")
	require.Contains(t, lines, "answer is longer than 1000 bytes")
}

func TestSilentPeersDelayANewTopicForABoundedTime(t *testing.T) {
	release := make(chan struct{})
	silent := web(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	c := newClient(t, func(o *PeersOptions) { o.HTTPRequestTimeout = 50 * time.Millisecond })
	c.Set([]string{fake(t, silent)})
	eventually(t, "identified", func() bool { return (*c.list.Load())[0].identity.Load() != nil })
	var asking sync.WaitGroup
	for range 3 * channelQueries {
		asking.Go(func() {
			names, _ := c.Channels("t")
			if len(names) > 0 {
				panic("nobody answered")
			}
		})
	}
	asking.Wait()
	c.log.waitFor(t, "too many topics ask at the same time")
	c.log.waitFor(t, "context deadline exceeded")
}

func TestNobodyToAsk(t *testing.T) {
	c := newClient(t, nil)
	c.Set([]string{fake(t, func(int, string) string { return "" })})
	_, asked := c.Channels("t")
	require.False(t, asked)
	c.log.waitFor(t, "ERROR no available nsqlookupd to query for channels to pre-create for topic t")
}
