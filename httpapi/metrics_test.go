package httpapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/lookupd"
	"github.com/nsqloop/nsqloop/mmapq"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// scrape is one GET /metrics, read by the client library's own parser.
func scrape(t *testing.T, addr string) map[string]*dto.MetricFamily {
	t.Helper()
	response, err := http.Get("http://" + addr + "/metrics")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", response.Header.Get("Content-Type"))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	require.NoError(t, err)
	return families
}

// valueOf is the value of one series: "name" or "name topic" or "name topic channel".
func valueOf(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	f := families[name]
	require.NotNil(t, f, name)
search:
	for _, m := range f.Metric {
		for i, l := range m.Label {
			if i >= len(labels) || l.GetValue() != labels[i] {
				continue search
			}
		}
		if f.GetType() == dto.MetricType_COUNTER {
			return m.Counter.GetValue()
		}
		return m.Gauge.GetValue()
	}
	t.Fatalf("no series of %s with labels %v", name, labels)
	return 0
}

func metricsFixture(t *testing.T, maxSeries int) *fixture {
	return newFixture(t, func(o *Options) {
		o.MaxSeries = maxSeries
		o.Traffic = func() Traffic {
			var d mmapq.Durations
			d.Add(int64(3*time.Millisecond), 2)
			return Traffic{Connections: 3, Accepted: 5, RefusedConnections: 1, Errors: map[string]uint64{"E_INVALID": 4, "E_BAD_TOPIC": 1}, Answer: d.Load()}
		}
	})
}

func TestMetrics(t *testing.T) {
	f := metricsFixture(t, 1000)
	before := scrape(t, f.addr)
	require.EqualValues(t, 0, valueOf(t, before, "nsqd_omitted_series"))
	require.EqualValues(t, 1, valueOf(t, before, "nsqd_healthy"))
	require.EqualValues(t, 3, valueOf(t, before, "nsqd_connections"))
	require.EqualValues(t, 5, valueOf(t, before, "nsqd_connections_accepted_total"))
	require.EqualValues(t, 1, valueOf(t, before, "nsqd_connections_refused_total"))
	require.EqualValues(t, 4, valueOf(t, before, "nsqd_refused_total", "E_INVALID"))
	require.Positive(t, valueOf(t, before, "nsqd_memory_anonymous_bytes"))
	require.Positive(t, valueOf(t, before, "nsqd_memory_mapped_bytes"))
	require.Positive(t, valueOf(t, before, "process_open_fds"))
	answer := before["nsqd_loop_answer_seconds"].Metric[0].Histogram
	require.EqualValues(t, 2, answer.GetSampleCount())
	require.InDelta(t, 0.006, answer.GetSampleSum(), 1e-9)
	require.Nil(t, before["nsqd_topic_depth"])

	topic := mustTopic(t, f.broker, "events")
	publishTo(t, topic, "one", "two")
	require.EqualValues(t, 2, valueOf(t, scrape(t, f.addr), "nsqd_topic_depth", "events"))
	channel, err := topic.Channel([]byte("work"))
	require.NoError(t, err)
	consumer, err := channel.AddConsumer(0, fanout.ConsumerOptions{})
	require.NoError(t, err)
	defer consumer.Close(fanout.Now())
	consumer.SetReady(1)
	var run fanout.Run
	require.True(t, consumer.Claim(fanout.Now(), &fanout.Scratch{}, &run))
	run.Release()
	consumer.EndBatch()

	held := scrape(t, f.addr)
	for name, want := range map[string]float64{
		"nsqd_channel_depth": 1, "nsqd_channel_in_flight": 1, "nsqd_channel_deferred": 0, "nsqd_channel_messages_total": 2,
		"nsqd_channel_delivered_total": 1, "nsqd_channel_finished_total": 0, "nsqd_channel_requeued_total": 0, "nsqd_channel_timeouts_total": 0,
		"nsqd_channel_clients": 1, "nsqd_channel_paused": 0,
	} {
		require.EqualValues(t, want, valueOf(t, held, name, "events", "work"), name)
	}
	require.EqualValues(t, 0, valueOf(t, held, "nsqd_topic_depth", "events"))
	require.EqualValues(t, 2, valueOf(t, held, "nsqd_topic_messages_total", "events"))
	require.EqualValues(t, 6, valueOf(t, held, "nsqd_topic_bytes_total", "events"))
	require.EqualValues(t, 1, valueOf(t, held, "nsqd_segments"))
	require.EqualValues(t, 1, held["nsqd_publish_to_delivery_seconds"].Metric[0].Histogram.GetSampleCount())
	// One second may have passed or ten: what matters is whose age it is.
	require.Positive(t, valueOf(t, held, "nsqd_channel_oldest_seconds", "events", "work"))

	for name, was := range before {
		if was.GetType() != dto.MetricType_COUNTER {
			continue
		}
		for i, m := range was.Metric {
			require.GreaterOrEqual(t, held[name].Metric[i].Counter.GetValue(), m.Counter.GetValue(), name)
		}
	}
}

// What is beyond the bound is left out by whole topics and channels, in the order of names, and counted.
func TestMetricsBound(t *testing.T) {
	perTopic, perChannel := len(topicSeries), len(channelSeries)
	tests := []struct {
		name              string
		bound             int
		topics, channels  int
		omitted           int
		lastTopic, lastCh string
	}{
		{"nothing", 0, 0, 0, 2*perTopic + 4*perChannel, "", ""},
		{"one topic", perTopic, 1, 0, perTopic + 4*perChannel, "a", ""},
		{"one short of a channel", perTopic + perChannel - 1, 1, 0, perTopic + 4*perChannel, "a", ""},
		{"one channel", perTopic + perChannel, 1, 1, perTopic + 3*perChannel, "a", "1"},
		{"all", 2*perTopic + 4*perChannel, 2, 4, 0, "b", "2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := metricsFixture(t, test.bound)
			mustTopic(t, f.broker, "a", "1", "2")
			mustTopic(t, f.broker, "b", "1", "2")
			got := scrape(t, f.addr)
			require.EqualValues(t, test.omitted, valueOf(t, got, "nsqd_omitted_series"))
			require.Len(t, got["nsqd_topic_depth"].GetMetric(), test.topics)
			require.Len(t, got["nsqd_channel_depth"].GetMetric(), test.channels)
			if test.lastTopic != "" {
				valueOf(t, got, "nsqd_topic_depth", test.lastTopic)
			}
			if test.lastCh != "" {
				valueOf(t, got, "nsqd_channel_depth", test.lastTopic, test.lastCh)
			}
		})
	}
}

func TestLookupMetrics(t *testing.T) {
	addr := newLookupServer(t, lookupd.RegistryOptions{InactiveProducerTimeout: time.Minute, TombstoneLifetime: time.Hour}, func(r *lookupd.Registry) {
		for i := range 3 {
			p := r.AddPeer(fmt.Sprintf("127.0.0.1:%d", i), lookupd.PeerInfo{BroadcastAddress: "h", HTTPPort: i})
			_, err := r.Register(p, "events", "work")
			require.NoError(t, err)
		}
		r.Tombstone("events", "h:1")
		require.NoError(t, r.CreateTopic("idle"))
		require.NoError(t, r.CreateTopic("too-many"))
	})
	got := scrape(t, addr)
	for name, want := range map[string]float64{
		"nsqlookupd_connections": 7, "nsqlookupd_connections_refused_total": 3, "nsqlookupd_peers": 3, "nsqlookupd_topics": 3,
		"nsqlookupd_omitted_series": float64(len(censusSeries)),
	} {
		require.EqualValues(t, want, valueOf(t, got, name), name)
	}
	require.EqualValues(t, 2, valueOf(t, got, "nsqlookupd_topic_producers", "events"))
	require.EqualValues(t, 1, valueOf(t, got, "nsqlookupd_topic_tombstoned", "events"))
	require.EqualValues(t, 1, valueOf(t, got, "nsqlookupd_topic_channels", "events"))
	require.EqualValues(t, 0, valueOf(t, got, "nsqlookupd_topic_producers", "idle"))
	require.Len(t, got["nsqlookupd_topic_producers"].Metric, 2)
	require.Positive(t, valueOf(t, got, "nsqlookupd_memory_anonymous_bytes"))
}

// What a power cut would take is told to who asks, and nobody else.
func TestDurabilityInStats(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.SyncPolicy = "interval" })
	publishTo(t, mustTopic(t, f.broker, "t"), "abc", "de")
	ask := func(query string) string {
		response, err := http.Get("http://" + f.addr + "/stats?include_mem=false&" + query)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return string(body)
	}
	require.NotContains(t, strings.ToLower(ask("")+ask("format=json")), "durability")
	require.Contains(t, ask("format=json&include_durability=true"),
		`"durability":{"sync_policy":"interval","unsynced_messages":2,"unsynced_bytes":73,"segments":1,"segment_bytes":65536,"damaged_messages":0},"producers":null}`)
	require.Contains(t, ask("include_durability=true"), "unsynced: 2 messages, 73 bytes")
}

// Requests are logged by whoever was given for that, nothing else is.
func TestAccessLog(t *testing.T) {
	access := &memoryLog{}
	f := newFixture(t, func(o *Options) { o.Access = access.Infof })
	response, err := http.Get("http://" + f.addr + "/ping")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Len(t, access.with("200 GET /ping"), 1)
	require.Empty(t, f.log.with("GET"))
}

// BenchmarkMetrics scrapes 10,000 channels.
func BenchmarkMetrics(b *testing.B) {
	broker, err := fanout.Open(mmapq.NewHeapDisk(), mmapq.Options{Node: 7}, fanout.Options{MaxTopics: 10000, MaxChannelsPerTopic: 100})
	require.NoError(b, err)
	defer func() { require.NoError(b, broker.Close()) }()
	for i := range 1000 {
		topic, err := broker.Topic(fmt.Appendf(nil, "topic-%d", i))
		require.NoError(b, err)
		for j := range 10 {
			_, err := topic.Channel(fmt.Appendf(nil, "channel-%d", j))
			require.NoError(b, err)
		}
	}
	s := &Server{o: Options{Broker: broker, MaxSeries: 1 << 20, Log: &memoryLog{}, Traffic: func() Traffic { return Traffic{} }}, process: processRegistry()}
	b.ReportAllocs()
	for b.Loop() {
		x := &exposition{w: bufio.NewWriter(io.Discard), left: s.o.MaxSeries}
		exposeNsqd(s, x)
		require.NoError(b, x.err)
	}
}
