package httpapi

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/lookupd"
	"github.com/stretchr/testify/require"
)

// lookupConversations hold what nsqlookupd's API answers to the byte; they also run against any nsqlookupd that knows no topic yet:
//
//	PEER_LOOKUP_HTTP=127.0.0.1:4161 go test ./httpapi -run TestLookupConversations
var lookupConversations = []struct {
	name  string
	steps []exchange
}{
	// rows: l3.ping l3.info
	{"ping and info", []exchange{
		does(line("GET", "/ping"), want{status: 200, header: bareText, body: "OK"}),
		does(line("GET", "/info"), wantJSON(`~\{"version":"1\.3\.0[^"]*"\}`)),
	}},
	// rows: l3.channels l3.lookup l3.nodes l3.debug l3#query l6#8 l6#11
	{"an empty registry", []exchange{
		does(line("GET", "/channels?topic=$t"), wantJSON(`{"channels":[]}`)),
		does(line("GET", "/channels?topic="), wantJSON(`{"channels":[]}`)),
		does(line("GET", "/lookup?topic=$t"), wantErr(404, "TOPIC_NOT_FOUND")),
		does(line("GET", "/lookup?topic="), wantErr(404, "TOPIC_NOT_FOUND")),
		does(line("GET", "/lookup?topic=$t!"), wantErr(404, "TOPIC_NOT_FOUND")),
		does(line("GET", "/nodes"), wantJSON(`{"producers":[]}`)),
		does(line("GET", "/debug"), wantJSON(`{}`)),
		does(line("GET", "/lookup"), wantErr(400, "MISSING_ARG_TOPIC")),
		does(line("GET", "/lookup?a;b"), wantErr(400, "INVALID_REQUEST")),
		does(line("GET", "/lookup?%zz"), wantErr(400, "INVALID_REQUEST")),
		does(line("GET", "/channels"), wantErr(400, "MISSING_ARG_TOPIC")),
		does(line("GET", "/nodes?%zz"), wantJSON(`{"producers":[]}`)),
	}},
	// rows: l3.topics l3.topic-create l3.topic-delete l3.channel-create l3.channel-delete l3.tombstone l2.topic l2.channel l6#9
	{"topics and channels by hand", []exchange{
		does(req("POST", "/topic/create?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/create?topic=$t", "body"), wantEmpty),
		does(line("GET", "/lookup?topic=$t"), wantJSON(`{"channels":[],"producers":[]}`)),
		does(line("GET", "/topics"), wantJSON(`~\{"topics":\[.*"$t".*\]\}`)),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(line("GET", "/channels?topic=$t"), wantJSON(`{"channels":["c"]}`)),
		does(line("GET", "/lookup?topic=$t"), wantJSON(`{"channels":["c"],"producers":[]}`)),
		does(req("POST", "/channel/create?topic=$u&channel=d%23ephemeral", ""), wantEmpty),
		does(line("GET", "/lookup?topic=$u"), wantJSON(`{"channels":["d#ephemeral"],"producers":[]}`)),
		does(req("POST", "/channel/delete?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/delete?topic=$t&channel=c", ""), wantErr(404, "CHANNEL_NOT_FOUND")),
		does(req("POST", "/channel/delete?topic=no$t&channel=c", ""), wantErr(404, "CHANNEL_NOT_FOUND")),
		does(req("POST", "/topic/delete?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/delete?topic=$t", ""), wantEmpty),
		does(line("GET", "/lookup?topic=$t"), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/delete?topic=$u", ""), wantEmpty),
		does(line("GET", "/channels?topic=$u"), wantJSON(`{"channels":[]}`)),
		does(req("POST", "/topic/tombstone?topic=$t&node=a:1", ""), wantEmpty),
	}},
	// rows: l3.topic-create l3.topic-delete l3.tombstone l3.channel-create l3.channel-delete l3#query
	{"refusals", []exchange{
		does(req("POST", "/topic/create", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/create?topic=", ""), wantErr(400, "INVALID_ARG_TOPIC")),
		does(req("POST", "/topic/create?topic=a%20b", ""), wantErr(400, "INVALID_ARG_TOPIC")),
		does(req("POST", "/topic/create?a;b", ""), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/topic/delete", "topic=a"), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/tombstone?node=a", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/tombstone?topic=$t", ""), wantErr(400, "MISSING_ARG_NODE")),
		does(req("POST", "/channel/create?channel=c", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/channel/create?topic=!&channel=!", ""), wantErr(400, "INVALID_ARG_TOPIC")),
		does(req("POST", "/channel/create?topic=$t", ""), wantErr(400, "MISSING_ARG_CHANNEL")),
		does(req("POST", "/channel/create?topic=$t&channel=", ""), wantErr(400, "INVALID_ARG_CHANNEL")),
		does(req("POST", "/channel/delete?topic=$t&channel=%21", ""), wantErr(400, "INVALID_ARG_CHANNEL")),
	}},
	// rows: l3#routing l6#13
	{"routing", []exchange{
		does(line("GET", "/"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/stats"), wantErr(404, "NOT_FOUND")),
		does(line("PUT", "/ping/"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/config/log_level"), wantErr(404, "NOT_FOUND")),
		does(req("POST", "/lookup?topic=$t", ""), wantAllow("GET, OPTIONS")),
		does(line("GET", "/topic/create"), wantAllow("OPTIONS, POST")),
		does(line("OPTIONS", "/nodes"), want{status: 200, header: header("Allow", "GET, OPTIONS")}),
		does(line("GET", "/lookup/?topic=$t"), want301("/lookup?topic=$t")),
		does(line("GET", "/debug/pprof/"), want301("/debug/pprof")),
		does(req("POST", "/topic/create/?topic=$t", ""), want307("/topic/create?topic=$t")),
	}},
}

func TestLookupConversations(t *testing.T) {
	addr := os.Getenv("PEER_LOOKUP_HTTP")
	stock := addr != ""
	if !stock {
		addr = newLookupServer(t, lookupd.RegistryOptions{InactiveProducerTimeout: time.Minute}, nil)
	}
	for _, c := range lookupConversations {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) { converse(t, addr, stock, c.steps) })
	}
}

func newLookupServer(t *testing.T, o lookupd.RegistryOptions, fill func(*lookupd.Registry)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	registry := lookupd.NewRegistry(o)
	if fill != nil {
		fill(registry)
	}
	server := NewLookup(listener, LookupOptions{
		Registry: registry, Log: &memoryLog{}, Version: "1.3.0+test", MaxSeries: 2*len(censusSeries) + 1,
		Connections: func() (int, uint64) { return 7, 3 },
	})
	server.Start()
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	return listener.Addr().String()
}
