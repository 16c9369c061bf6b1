package compat

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// registryRows are proved by TestRegistry: what V1 registers is what HTTP shows.
var registryRows = strings.Fields(`l1.1#wrong-magic l1.1#short-magic l1.1.reply l1.2.ping l1.2.identify l1.2.register l1.2.unregister-channel l1.2.unregister-topic l1.4#disconnect
	l1.2.field.hostname l1.2.field.topology l1.2.field.remote-address
	l2.client l2.topic l2.channel l2#keys-outlive l2#ephemeral l2#tombstone l2#inactive l2#re-register l2#wildcard
	l3.lookup l3.nodes l3.debug l3.tombstone l3.topic-delete
	l6#4 l6#5 l6#6 l6#7 l6#8 l6#9 l6#10 l6#11 l6#12 l6#13`)

// A registry is a running nsqlookupd.
type registry struct {
	t         *testing.T
	tcp, http string
}

// dial opens a connection of a producer and identifies it.
func (r registry) dial(port int) *registrant {
	r.t.Helper()
	c, err := net.Dial("tcp", r.tcp)
	require.NoError(r.t, err)
	require.NoError(r.t, c.SetDeadline(time.Now().Add(time.Minute)))
	r.t.Cleanup(func() { _ = c.Close() })
	p := &registrant{t: r.t, conn: c}
	body := fmt.Sprintf(`{"broadcast_address":"b%d","hostname":"h","http_port":%d,"tcp_port":4150,"topology_region":"r","topology_zone":"z",`+
		`"version":"v","remote_address":"nobody:1","more":[1]}`, port, port)
	head := binary.BigEndian.AppendUint32([]byte("  V1IDENTIFY\n"), uint32(len(body)))
	require.Regexp(r.t, `^\{"broadcast_address":"[^"]*","hostname":"[^"]*","http_port":\d+,"tcp_port":\d+,"version":"1\.3\.0[^"]*"\}$`,
		p.ask(string(head)+body))
	return p
}

// registrant is a connection of a producer.
type registrant struct {
	t    *testing.T
	conn net.Conn
}

func (p *registrant) ask(text string) string {
	p.t.Helper()
	_, err := io.WriteString(p.conn, text)
	require.NoError(p.t, err)
	var size [4]byte
	_, err = io.ReadFull(p.conn, size[:])
	require.NoError(p.t, err)
	reply := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(p.conn, reply)
	require.NoError(p.t, err)
	return string(reply)
}

func (p *registrant) say(commands ...string) {
	p.t.Helper()
	for _, c := range commands {
		require.Equal(p.t, "OK", p.ask(c+"\n"), c)
	}
}

// varying are the parts of an answer that differ each time.
var varying = regexp.MustCompile(`127\.0\.0\.1:\d+|"last_update":\d{19}|"tombstoned_at":\d{19}`)

// shows waits until a path answers with a status and a body: a closed connection is noticed a little later.
func (r registry) shows(path string, status int, body string) {
	r.t.Helper()
	var got string
	require.Eventually(r.t, func() bool {
		request, err := http.NewRequest(http.MethodGet, "http://"+r.http+path, nil)
		require.NoError(r.t, err)
		code, reply, err := roundTrip(request)
		require.NoError(r.t, err)
		got = fmt.Sprint(code, " ", varying.ReplaceAllStringFunc(string(reply), func(s string) string {
			name, _, _ := strings.Cut(s, ":")
			return name + ":?"
		}))
		return got == fmt.Sprint(status, " ", body)
	}, patience, 20*time.Millisecond, "%s", lateText(func() string { return path + ": " + body + "\ngot " + got }))
}

// lateText is made when it is printed.
type lateText func() string

func (l lateText) String() string { return l() }

func (r registry) post(path string, status int) {
	r.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+r.http+path, nil)
	require.NoError(r.t, err)
	code, reply, err := roundTrip(request)
	require.NoError(r.t, err)
	require.Equal(r.t, status, code, "%s: %s", path, reply)
}

func startRegistry(t *testing.T, args ...string) registry {
	t.Helper()
	d := startPlain(t, lookupdPath(t), "", args...)
	t.Cleanup(func() { require.NoError(t, d.Stop(stopDeadline)) })
	return registry{t, d.TCPAddr, d.HTTPAddr}
}

func producer(port int) string {
	return fmt.Sprintf(`{"remote_address":"127.0.0.1:?","hostname":"h","broadcast_address":"b%d","tcp_port":4150,"http_port":%d,"version":"v",`+
		`"topology_zone":"z","topology_region":"r"}`, port, port)
}

func node(port int, tombstones, topics string) string {
	return strings.TrimSuffix(producer(port), "}") + `,"tombstones":[` + tombstones + `],"topics":[` + topics + `]}`
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	t.Run("magic", func(t *testing.T) {
		r := startRegistry(t)
		for _, c := range []struct{ send, reply string }{{"  V2", "\x00\x00\x00\x0eE_BAD_PROTOCOL"}, {"GET ", "\x00\x00\x00\x0eE_BAD_PROTOCOL"}, {"  V", ""}} {
			conn, err := net.Dial("tcp", r.tcp)
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, err = io.WriteString(conn, c.send)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			reply, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, c.reply, string(reply))
			require.NoError(t, conn.Close())
		}
	})
	t.Run("registering", func(t *testing.T) {
		r := startRegistry(t)
		a := r.dial(1)
		a.say("PING", "REGISTER t", "REGISTER t", "PING x y")
		r.shows("/nodes", 200, `{"producers":[`+node(1, "false", `"t"`)+`]}`)
		r.shows("/lookup?topic=t", 200, `{"channels":[],"producers":[`+producer(1)+`]}`)
		a.say("REGISTER t c", "REGISTER t c", "UNREGISTER t c")
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[`+producer(1)+`]}`)
		item := `{"broadcast_address":"b1","hostname":"h","http_port":1,"id":"127.0.0.1:?","last_update":?,"tcp_port":4150,"tombstoned":false,` +
			`"tombstoned_at":-6795364578871345152,"topology_region":"r","topology_zone":"z","version":"v"}`
		debug := `{"client::":[` + item + `],"topic:t:":[` + item + `]}`
		r.shows("/debug", 200, debug)
		a.say("REGISTER t c", "UNREGISTER t")
		r.shows("/debug", 200, `{"client::":[`+item+`]}`)
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[]}`)
		r.shows("/nodes", 200, `{"producers":[`+node(1, "", "")+`]}`)
	})
	t.Run("two connections are two producers, a closed one takes back, keys stay", func(t *testing.T) {
		r := startRegistry(t)
		a, b := r.dial(1), r.dial(1)
		a.say("REGISTER t c", "REGISTER e#ephemeral f#ephemeral")
		b.say("REGISTER t c")
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[`+producer(1)+","+producer(1)+`]}`)
		require.NoError(t, a.conn.Close())
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[`+producer(1)+`]}`)
		require.NoError(t, b.conn.Close())
		r.shows("/nodes", 200, `{"producers":[]}`)
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[]}`)
		r.shows("/lookup?topic=e%23ephemeral", 200, `{"channels":["f#ephemeral"],"producers":[]}`)
		c := r.dial(2)
		c.say("REGISTER e#ephemeral f#ephemeral", "UNREGISTER e#ephemeral f#ephemeral")
		r.shows("/lookup?topic=e%23ephemeral", 200, `{"channels":[],"producers":[`+producer(2)+`]}`)
		c.say("UNREGISTER e#ephemeral")
		r.shows("/lookup?topic=e%23ephemeral", 404, `{"message":"TOPIC_NOT_FOUND"}`)
		r.shows("/topics", 200, `{"topics":["t"]}`)
	})
	t.Run("tombstones hide for their time, from this lookup only", func(t *testing.T) {
		r := startRegistry(t, "--tombstone-lifetime=6s")
		a := r.dial(1)
		a.say("REGISTER t c", "REGISTER u")
		r.post("/topic/tombstone?topic=t&node=b1:2", 200)
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[`+producer(1)+`]}`)
		r.post("/topic/tombstone?topic=u&node=b1:1", 200)
		a.say("REGISTER u")
		r.shows("/lookup?topic=u", 200, `{"channels":[],"producers":[]}`)
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[`+producer(1)+`]}`)
		// It ends by itself, and by taking the registration back.
		r.shows("/lookup?topic=u", 200, `{"channels":[],"producers":[`+producer(1)+`]}`)
		r.post("/topic/tombstone?topic=t&node=b1:1", 200)
		a.say("UNREGISTER t", "REGISTER t")
		r.shows("/lookup?topic=t", 200, `{"channels":["c"],"producers":[`+producer(1)+`]}`)
	})
	t.Run("a tombstone stands in nodes", func(t *testing.T) {
		r := startRegistry(t)
		a := r.dial(1)
		a.say("REGISTER t")
		r.post("/topic/tombstone?topic=t&node=b1:1", 200)
		r.shows("/nodes", 200, `{"producers":[`+node(1, "true", `"t"`)+`]}`)
		r.shows("/lookup?topic=t", 200, `{"channels":[],"producers":[]}`)
	})
	t.Run("who does not ping is hidden, not forgotten", func(t *testing.T) {
		r := startRegistry(t, "--inactive-producer-timeout=3s")
		a := r.dial(1)
		a.say("REGISTER t")
		r.shows("/lookup?topic=t", 200, `{"channels":[],"producers":[]}`)
		a.say("REGISTER t", "REGISTER v")
		r.shows("/nodes", 200, `{"producers":[]}`)
		r.shows("/topics", 200, `{"topics":["t","v"]}`)
		a.say("PING")
		r.shows("/lookup?topic=t", 200, `{"channels":[],"producers":[`+producer(1)+`]}`)
	})
	t.Run("deletion, and any topic", func(t *testing.T) {
		r := startRegistry(t)
		a := r.dial(1)
		a.say("REGISTER t c", "REGISTER u")
		r.shows("/lookup?topic=*", 200, `{"channels":["c"],"producers":[`+producer(1)+`]}`)
		r.shows("/channels?topic=*", 200, `{"channels":["c"]}`)
		r.post("/topic/delete?topic=t", 200)
		r.shows("/lookup?topic=t", 404, `{"message":"TOPIC_NOT_FOUND"}`)
		r.shows("/channels?topic=t", 200, `{"channels":[]}`)
		r.post("/topic/delete?topic=unknown", 200)
		r.post("/channel/delete?topic=t&channel=c", 404)
		a.say("REGISTER t")
		r.shows("/lookup?topic=t", 200, `{"channels":[],"producers":[`+producer(1)+`]}`)
		r.post("/topic/delete?topic=*", 200)
		r.shows("/topics", 200, `{"topics":[]}`)
		r.shows("/nodes", 200, `{"producers":[`+node(1, "", "")+`]}`)
	})
}
