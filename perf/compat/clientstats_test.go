package compat

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clientStatsRows are proved by TestStatsOfClients.
var clientStatsRows = strings.Fields(`h5.2.top h5.2.topic h5.2.channel h5.2.client h5.2.pub-counts h5.2.e2e h5.2#depth h5.2#topic-counts
	h5.2#channel-depth h5.2#message-count h5.2#requeue-timeout h5.2#global h5.2#state h5.2#client-id h5.2#producers h5.2#one-pub-count
	h5.3.topic h5.3.channel h5.3.consumer h5.3.producer h5.3.e2e h6#11 h6#12`)

var (
	statsNumbers = regexp.MustCompile(`("start_time":|"connect_ts":|"remote_address":"127\.0\.0\.1:|"value":)\d+`)
	statsVersion = regexp.MustCompile(`"version":"1\.3\.0[^"]*"`)
)

// TestStatsOfClients is what one producer and two consumers look like, as JSON and as text.
func TestStatsOfClients(t *testing.T) {
	t.Parallel()
	d := ownDaemon(t, findPeer(t), "--e2e-processing-latency-percentile=1.0,0.95")
	open := func(commands string, frames ...string) *conn {
		c, err := dial(d.network, d.tcp, 0)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.close()) })
		require.NoError(t, c.send([]byte("  V2"+commands), false))
		for _, want := range frames {
			wantFrame(t, c, want)
		}
		return c
	}
	identity := func(json string) string { return "IDENTIFY\n" + string([]byte{0, 0, 0, byte(len(json))}) + json }
	consumer := open(identity(`{"client_id":"cons1","hostname":"conshost","user_agent":"py/2","topology_zone":"z1"}`)+"SUB t1 ch\n", "OK", "OK")
	open("SUB t1 other\n", "OK")
	open(identity(`{"client_id":"prod1","hostname":"prodhost","user_agent":"py/1"}`)+
		"PUB t1\n\x00\x00\x00\x03abcPUB t1\n\x00\x00\x00\x02deDPUB t1 3600000\n\x00\x00\x00\x01fPUB t2\n\x00\x00\x00\x01g", "OK", "OK", "OK", "OK", "OK")
	waitStats(t, d, "t1", "topics.0.channels.0.message_count", "3")
	waitStats(t, d, "t1", "topics.0.channels.1.message_count", "3")
	require.NoError(t, consumer.send([]byte("RDY 1\n"), false))
	id := wantMessage(t, consumer)
	require.NoError(t, consumer.send([]byte("REQ "+id+" 0\n"), false))
	second := wantMessage(t, consumer)
	require.NoError(t, consumer.send([]byte("FIN "+second+"\n"), false))
	third := wantMessage(t, consumer)
	require.Equal(t, id, third)
	waitStats(t, d, "t1", "topics.0.channels.0.clients.0.finish_count", "1")

	tls := `"tls":false,"tls_cipher_suite":"","tls_version":"","tls_negotiated_protocol":"","tls_negotiated_protocol_is_mutual":false}`
	first := `{"client_id":"cons1","hostname":"conshost","version":"V2","remote_address":"127.0.0.1:0","state":3,"ready_count":1,"in_flight_count":1,` +
		`"message_count":3,"finish_count":1,"requeue_count":1,"connect_ts":0,"sample_rate":0,"deflate":false,"snappy":false,"user_agent":"py/2",` +
		`"topology_zone":"z1","topology_region":"",` + tls
	other := `{"client_id":"127.0.0.1","hostname":"127.0.0.1","version":"V2","remote_address":"127.0.0.1:0","state":3,"ready_count":0,"in_flight_count":0,` +
		`"message_count":0,"finish_count":0,"requeue_count":0,"connect_ts":0,"sample_rate":0,"deflate":false,"snappy":false,"user_agent":"",` +
		`"topology_zone":"","topology_region":"",` + tls
	percentiles := `"e2e_processing_latency":{"count":1,"percentiles":[{"quantile":1,"value":0},{"quantile":0.95,"value":0}]}}`
	want := `{"version":"","health":"OK","start_time":0,"topics":[{"topic_name":"t1","channels":[` +
		`{"channel_name":"ch","depth":0,"backend_depth":0,"in_flight_count":1,"deferred_count":1,"message_count":3,"global_msg_count":3,"requeue_count":1,` +
		`"timeout_count":0,"client_count":1,"clients":[` + first + `],"paused":false,` + percentiles + `,` +
		`{"channel_name":"other","depth":2,"backend_depth":0,"in_flight_count":0,"deferred_count":1,"message_count":3,"requeue_count":0,` +
		`"timeout_count":0,"client_count":1,"clients":[` + other + `],"paused":false,"e2e_processing_latency":{"count":0,"percentiles":[` +
		`{"quantile":1,"value":0},{"quantile":0.95,"value":0}]}}],` +
		`"depth":0,"backend_depth":0,"message_count":3,"message_bytes":6,"paused":false,` + percentiles + `],"producers":[` +
		`{"client_id":"prod1","hostname":"prodhost","version":"V2","remote_address":"127.0.0.1:0","state":0,"ready_count":0,"in_flight_count":0,` +
		`"message_count":0,"finish_count":0,"requeue_count":0,"connect_ts":0,"sample_rate":0,"deflate":false,"snappy":false,"user_agent":"py/1",` +
		`"topology_zone":"","topology_region":"","pub_counts":[{"topic":"t1","count":3}],` + tls + `]}`
	got := statsVersion.ReplaceAllString(fetchStats(t, d, "&format=json&topic=t1"), `"version":""`)
	require.Equal(t, want, statsNumbers.ReplaceAllString(got, "${1}0"))

	_, text, found := strings.Cut(fetchStats(t, d, "&topic=t1"), "Topics:\n")
	require.True(t, found)
	require.Equal(t, `   [t1             ] depth: 0     be-depth: 0     msgs: 3        e2e%: ?, ?
      [ch                       ] depth: 0     be-depth: 0     inflt: 1    def: 1    re-q: 1     timeout: 0     msgs: 3        e2e%: ?, ?
        [V2 conshost:? py/2] state: 3 inflt: 1    rdy: 1    fin: 1        re-q: 1        msgs: 3        connected: ?
      [other                    ] depth: 2     be-depth: 0     inflt: 0    def: 1    re-q: 0     timeout: 0     msgs: 3        e2e%: ?, ?
        [V2 127.0.0.1:?] state: 3 inflt: 0    rdy: 0    fin: 0        re-q: 0        msgs: 0        connected: ?

Producers:
   [V2 prodhost:? py/1] msgs: 3        topics: t1=3 connected: ?
`, blankText(text))
}

var (
	textConnected = regexp.MustCompile(`connected: \S+`)
	textLatency   = regexp.MustCompile(`e2e%: \S+, \S+`)
	textClient    = regexp.MustCompile(`\[V2 (\S+):\d+ ?(\S*) *\]`)
)

// blankText takes out of the text form what is another each time. The padding of a client's name goes with the length of its port: that it
// fills its 21 columns is checked before.
func blankText(text string) string {
	text = textConnected.ReplaceAllString(text, "connected: ?")
	text = textLatency.ReplaceAllString(text, "e2e%: ?, ?")
	return textClient.ReplaceAllStringFunc(text, func(s string) string {
		m := textClient.FindStringSubmatch(s)
		if len(s) != len("[V2 ")+21+len("]") {
			return s
		}
		return strings.TrimSuffix("[V2 "+m[1]+":? "+m[2], " ") + "]"
	})
}

func wantFrame(t *testing.T, c *conn, data string) {
	t.Helper()
	e, ok := c.next(patience, true)
	require.True(t, ok)
	require.Equal(t, data, string(e.data), "%s", e)
}

func wantMessage(t *testing.T, c *conn) (id string) {
	t.Helper()
	e, ok := c.next(patience, true)
	require.True(t, ok && e.end == "" && e.kind == frameMessage, "%s", e)
	m, err := parseMessage(e.data)
	require.NoError(t, err)
	return m.id
}

func waitStats(t *testing.T, d *daemon, topic, path, want string) {
	t.Helper()
	var got string
	require.Eventually(t, func() bool {
		var err error
		got, err = statsValue("http://"+d.http+"/stats?format=json&topic="+topic, path)
		require.NoError(t, err)
		return got == want
	}, patience, 10*time.Millisecond, "%s of %s", path, topic)
}

func fetchStats(t *testing.T, d *daemon, query string) string {
	t.Helper()
	resp, err := httpClient.Get("http://" + d.http + "/stats?include_mem=false" + query)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(body)
}
