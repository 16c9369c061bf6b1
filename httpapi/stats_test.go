package httpapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func twoClients(now time.Time) []testClient {
	return []testClient{
		{topic: "t1", channel: "ch1", Client: Client{ID: "cons1", Hostname: "a.b.c", Version: "V2", RemoteAddress: "127.0.0.1:44330", State: 3, ReadyCount: 5,
			InFlightCount: 4, MessageCount: 4, FinishCount: 1, RequeueCount: 2, ConnectTime: now.Unix(), UserAgent: "py/2 <&>",
			TopologyZone: "z1", TopologyRegion: "r1"}},
		{topic: "t1", channel: "ch2", Client: Client{ID: "127.0.0.1", Hostname: "127.0.0.1", Version: "V2", RemoteAddress: "127.0.0.1:44356", State: 3,
			ConnectTime: now.Unix(), Published: []PubCount{{"t1", 7}, {"t2", 1}}}},
		{Client: Client{ID: "", Hostname: "", Version: "V2", RemoteAddress: "127.0.0.1:44354", ConnectTime: now.Unix(), Published: []PubCount{{"t3", 1}}}},
		{Client: Client{ID: "idle", Hostname: "idle", Version: "V2", RemoteAddress: "127.0.0.1:1", ConnectTime: now.Unix()}},
	}
}

func statsFixture(t *testing.T) *fixture {
	f := newFixture(t, nil)
	f.clients = twoClients(time.Now())
	require.Equal(t, 200, f.call(t, "POST", "/topic/create?topic=t1", "").status)
	require.Equal(t, 200, f.call(t, "POST", "/channel/create?topic=t1&channel=ch1", "").status)
	require.Equal(t, 200, f.call(t, "POST", "/channel/create?topic=t1&channel=ch2", "").status)
	return f
}

func TestClientObjectKeepsItsOrder(t *testing.T) {
	f := statsFixture(t)
	body := f.call(t, "GET", "/stats?format=json&include_mem=0&topic=t1", "").body
	at := time.Unix(f.clients[0].ConnectTime, 0).Unix()
	ts, err := json.Marshal(at)
	require.NoError(t, err)
	const tail = `"tls":false,"tls_cipher_suite":"","tls_version":"","tls_negotiated_protocol":"","tls_negotiated_protocol_is_mutual":false}`
	require.Contains(t, body, `"clients":[{"client_id":"cons1","hostname":"a.b.c","version":"V2","remote_address":"127.0.0.1:44330","state":3,`+
		`"ready_count":5,"in_flight_count":4,"message_count":4,"finish_count":1,"requeue_count":2,"connect_ts":`+string(ts)+`,"sample_rate":0,`+
		`"deflate":false,"snappy":false,"user_agent":"py/2 \u003c\u0026\u003e","topology_zone":"z1","topology_region":"r1",`+tail+`]`)
	require.Contains(t, body, `"topology_region":"","pub_counts":[{"topic":"t1","count":7}],`+tail+`]`)
}

// report is the whole answer of /stats as encoding/json sees it.
type report struct {
	Version   string       `json:"version"`
	Health    string       `json:"health"`
	StartTime int64        `json:"start_time"`
	Topics    []topicStats `json:"topics"`
	Memory    *memory      `json:"memory,omitempty"`
	Producers []Client     `json:"producers"`
}

// What is written by hand must be what encoding/json makes of the types, field by field.
func TestEncodersAgreeWithTheTypes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "plain", "<&>\"\\", "\x00\n\t", "\u2028é", "\xff"}
	random := func(v any) {
		fields := reflect.ValueOf(v).Elem()
		for i := range fields.NumField() {
			switch f := fields.Field(i); f.Kind() {
			case reflect.String:
				f.SetString(texts[rng.IntN(len(texts))])
			case reflect.Bool:
				f.SetBool(rng.IntN(2) == 0)
			case reflect.Int, reflect.Int32, reflect.Int64:
				f.SetInt(rng.Int64N(2000) * rng.Int64N(2))
			case reflect.Uint64:
				f.SetUint(rng.Uint64N(2000) * rng.Uint64N(2))
			}
		}
	}
	latencies := []latency{{}, {Count: 2, Percentiles: []latencyValue{{1, 1e6}, {0.99, 2.5}}}}
	for range 500 {
		var client Client
		random(&client)
		if rng.IntN(2) == 0 {
			client.PubCounts = []PubCount{{texts[rng.IntN(len(texts))], 3}}
		}
		want, err := json.Marshal(&client)
		require.NoError(t, err)
		require.Equal(t, string(want), string(appendClient(nil, &client)))

		var c channelStats
		random(&c)
		c.Latency = latencies[rng.IntN(2)]
		c.Clients = []Client{client}
		want, err = json.Marshal(&c)
		require.NoError(t, err)
		got := append(appendClient(append(appendChannelHead(nil, &c), '['), &client), ']')
		require.Equal(t, string(want), string(appendChannelTail(got, &c)))

		st := statsStream{} // clients were not asked for
		topic := topicStats{Channels: []channelStats{}}
		random(&topic)
		topic.Latency = latencies[rng.IntN(2)]
		for range rng.IntN(3) {
			c.Clients = nil
			topic.Channels = append(topic.Channels, c)
		}
		want, err = json.Marshal(&topic)
		require.NoError(t, err)
		require.Equal(t, string(want), string(st.appendTopic(nil, &topic, func(b []byte, _ int) []byte { return b })))
	}
}

// An answer of many pieces is one answer, over HTTP/1.0 too.
func TestLargeStatsAreStreamed(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 20 {
		topic, err := f.broker.Topic(fmt.Appendf(nil, "topic%02d", i))
		require.NoError(t, err)
		for j := range 100 {
			_, err := topic.Channel(fmt.Appendf(nil, "channel%d", j))
			require.NoError(t, err)
			f.clients = append(f.clients, testClient{topic: topic.Name(), channel: fmt.Sprintf("channel%d", j), Client: Client{ID: "c", Version: "V2", RemoteAddress: "1.2.3.4:5",
				Published: []PubCount{{topic.Name(), 1}}}})
		}
	}
	for _, format := range []string{"format=json&", ""} {
		var bodies []string
		for _, version := range []string{"1.1", "1.0"} {
			c := dial(t, "tcp", f.addr)
			c.send(t, "GET /stats?"+format+"include_mem=0 HTTP/"+version+"\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
			a, err := c.read("GET")
			require.NoError(t, err)
			require.Greater(t, len(a.body), 2*statsPiece)
			bodies = append(bodies, regexp.MustCompile(`uptime \S+|connected: \S+`).ReplaceAllString(a.body, ""))
			c.send(t, line("GET", "/ping"))
			a, err = c.read("GET")
			require.NoError(t, err)
			require.Equal(t, "OK", a.body, "the connection goes on")
		}
		require.Equal(t, bodies[0], bodies[1])
	}
	topics, producers := statsOf(t, f, "")
	require.Len(t, topics, 20)
	require.Len(t, producers, 2000)
	require.Len(t, topics[7].Channels[99].Clients, 1)
}

// statsOf decodes the parts of /stats that depend on the query.
func statsOf(t *testing.T, f *fixture, query string) (topics []topicStats, producers []Client) {
	t.Helper()
	var got report
	require.NoError(t, json.Unmarshal([]byte(f.call(t, "GET", "/stats?format=json&"+query, "").body), &got))
	return got.Topics, got.Producers
}

func TestProducersShowOneCount(t *testing.T) {
	f := statsFixture(t)
	_, producers := statsOf(t, f, "")
	require.Len(t, producers, 2)
	require.Equal(t, []PubCount{{"t1", 7}}, producers[0].PubCounts)
	_, producers = statsOf(t, f, "topic=t1")
	require.Len(t, producers, 2, "a producer is listed although it never published to the topic")
	require.Equal(t, []PubCount{{"t1", 7}}, producers[0].PubCounts)
	require.Empty(t, producers[1].PubCounts)
	_, producers = statsOf(t, f, "topic=unknown")
	require.Nil(t, producers)
	topics, producers := statsOf(t, f, "include_clients=false")
	require.Nil(t, producers)
	require.Nil(t, topics[0].Channels[0].Clients)
	topics, _ = statsOf(t, f, "channel=ch2&include_clients=1")
	require.Len(t, topics, 1)
	require.Len(t, topics[0].Channels, 1)
	require.Len(t, topics[0].Channels[0].Clients, 1)
}

func TestClientsAsText(t *testing.T) {
	f := statsFixture(t)
	text := f.call(t, "GET", "/stats?include_mem=0", "").body
	_, text, _ = strings.Cut(text, "Health: OK\n\n")
	for _, age := range []string{"1s", "2s", "3s", "4s"} { // a slow machine
		text = strings.ReplaceAll(text, "connected: "+age, "connected: 0s")
	}
	require.Equal(t, `Topics:
   [t1             ] depth: 0     be-depth: 0     msgs: 0        e2e%: 
      [ch1                      ] depth: 0     be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 0        e2e%: 
        [V2 a.b.c:44330 py/2 <&> ] state: 3 inflt: 4    rdy: 5    fin: 1        re-q: 2        msgs: 4        connected: 0s
      [ch2                      ] depth: 0     be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 0        e2e%: 
        [V2 127.0.0.1:44356      ] msgs: 7        topics: t1=7 connected: 0s

Producers:
   [V2 127.0.0.1:44356      ] msgs: 7        topics: t1=7 connected: 0s
   [V2 :44354               ] msgs: 1        topics: t3=1 connected: 0s
`, text)
	text = f.call(t, "GET", "/stats?include_mem=0&topic=t1", "").body
	require.Contains(t, text, "   [V2 :44354               ] state: 0 inflt: 0    rdy: 0    fin: 0        re-q: 0        msgs: 0        connected: ",
		"a producer without a matching count is shown like a consumer")
}

// rows: h5.1.empty#1
func TestStatsOfAnEmptyNode(t *testing.T) {
	f := newFixture(t, nil)
	body := f.call(t, "GET", "/stats?format=json&include_mem=0", "").body
	require.Contains(t, body, `"topics":[],"producers":null}`)
}

func TestPercentile(t *testing.T) {
	require.Zero(t, percentile(nil, 99))
	var pauses []time.Duration
	for i := range 100 {
		pauses = append(pauses, time.Duration(i+1)*time.Microsecond)
	}
	require.EqualValues(t, 100, percentile(pauses, 100))
	require.EqualValues(t, 99, percentile(pauses, 99))
	require.EqualValues(t, 95, percentile(pauses, 95))
	require.EqualValues(t, 1, percentile(pauses[:1], 95))
}
