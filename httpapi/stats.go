package httpapi

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
)

// latency is the e2e_processing_latency object. It must always be there, tools fail without it.
type latency struct {
	Count       int            `json:"count"`
	Percentiles []latencyValue `json:"percentiles"` // null when none are configured
}

type latencyValue struct {
	Quantile float64 `json:"quantile"`
	Value    float64 `json:"value"` // ns
}

func latencyFrom(from fanout.Latency) latency {
	to := latency{Count: from.Count}
	for _, p := range from.Percentiles {
		to.Percentiles = append(to.Percentiles, latencyValue(p))
	}
	return to
}

// topicStats and channelStats keep the API's order of fields.
type topicStats struct {
	Name         string         `json:"topic_name"`
	Channels     []channelStats `json:"channels"`
	Depth        int64          `json:"depth"`
	BackendDepth int64          `json:"backend_depth"`
	MessageCount uint64         `json:"message_count"`
	MessageBytes uint64         `json:"message_bytes"`
	Paused       bool           `json:"paused"`
	Latency      latency        `json:"e2e_processing_latency"`
}

type channelStats struct {
	Channel *fanout.Channel `json:"-"`

	Name           string   `json:"channel_name"`
	Depth          int64    `json:"depth"`
	BackendDepth   int64    `json:"backend_depth"`
	InFlightCount  int64    `json:"in_flight_count"`
	DeferredCount  int64    `json:"deferred_count"`
	MessageCount   uint64   `json:"message_count"`
	ZoneLocalCount uint64   `json:"zone_local_msg_count,omitempty"`
	RegionCount    uint64   `json:"region_local_msg_count,omitempty"`
	GlobalCount    uint64   `json:"global_msg_count,omitempty"`
	RequeueCount   uint64   `json:"requeue_count"`
	TimeoutCount   uint64   `json:"timeout_count"`
	ClientCount    int      `json:"client_count"`
	Clients        []Client `json:"clients"` // only for readers of the answer: the encoders take them from the connections
	Paused         bool     `json:"paused"`
	Latency        latency  `json:"e2e_processing_latency"`
}

// durability is what /stats tells with include_durability=true. It is not there unasked: the answer is then the stock daemon's to the byte.
type durability struct {
	SyncPolicy       string `json:"sync_policy"`
	UnsyncedMessages uint64 `json:"unsynced_messages"` // acknowledged, and lost by a power cut now
	UnsyncedBytes    int64  `json:"unsynced_bytes"`
	Segments         int    `json:"segments"`
	SegmentBytes     int64  `json:"segment_bytes"`
	DamagedMessages  int64  `json:"damaged_messages"` // since start
}

func (s *Server) durability() durability {
	u := s.o.Broker.Usage()
	return durability{
		SyncPolicy: s.o.SyncPolicy, UnsyncedMessages: u.UnsyncedMessages, UnsyncedBytes: u.UnsyncedBytes, Segments: u.Segments,
		SegmentBytes: u.SegmentBytes, DamagedMessages: u.Damaged,
	}
}

// statsQuery holds the parameters of /stats.
type statsQuery struct {
	topic, channel string // "" = all
	clients, mem   bool
	durability     bool
	json           bool
}

func parseStatsQuery(args query) statsQuery {
	q := statsQuery{clients: flagParam(args, "include_clients"), mem: flagParam(args, "include_mem")}
	topic, _ := args.get("topic")
	channel, _ := args.get("channel")
	format, _ := args.get("format")
	durability, _ := args.get("include_durability")
	q.durability = string(durability) == "true" || string(durability) == "1"
	q.topic, q.channel, q.json = string(topic), string(channel), string(format) == "json"
	return q
}

// flagParam is a parameter that is true unless it says otherwise.
func flagParam(args query, key string) bool {
	value, _ := args.get(key)
	return string(value) != "false" && string(value) != "0"
}

// stats answers in JSON or as text.
func stats(s *Server, r *request) reply {
	if refusal, ok := s.params(r); !ok {
		return refusal
	}
	q := parseStatsQuery(r.args)
	return reply{json: q.json, text: !q.json, stream: s.openStats(q)}
}

// statsStream writes the answer of /stats piece by piece, a topic at a time, so that what it needs does not grow with the number of topics. It
// holds no lock between pieces; figures of different topics are of slightly different moments. Owned by the request's goroutine.
type statsStream struct {
	s       *Server
	q       statsQuery
	topics  []*fanout.Topic
	unknown bool         // the wanted topic does not exist: both lists are null
	clients *clientLists // nil: not asked for
	now     time.Time

	figures  []fanout.ChannelStats // of the topic at hand
	channels []channelStats        // the same as they are shown
	client   Client                // the one at hand
}

// openStats finds out what q asks for.
func (s *Server) openStats(q statsQuery) *statsStream {
	st := &statsStream{s: s, q: q, now: time.Now()}
	if q.topic == "" {
		st.topics = s.o.Broker.Topics()
	} else if topic := s.o.Broker.LookupTopic(q.topic); topic != nil {
		st.topics = []*fanout.Topic{topic}
	} else {
		st.unknown = true
		return st
	}
	if q.clients {
		st.clients = groupClients(s.o.Clients())
	}
	return st
}

// statsPiece is how much is gathered before it is sent.
const statsPiece = 256 << 10

var statsPool = sync.Pool{New: func() any { b := make([]byte, 0, statsPiece+statsPiece/4); return &b }}

// WriteTo writes everything. It is what the server calls; see SupportsBodyWriteTo.
func (st *statsStream) WriteTo(w io.Writer) (total int64, err error) {
	pooled := statsPool.Get().(*[]byte)
	buf := (*pooled)[:0]
	flush := func(b []byte, least int) []byte {
		if err != nil {
			return b[:0] // nobody reads on
		}
		if len(b) < least {
			return b
		}
		var n int
		n, err = w.Write(b)
		total += int64(n)
		return b[:0]
	}
	if st.q.json {
		buf = st.json(buf, flush)
	} else {
		buf = st.text(buf, flush)
	}
	buf = flush(buf, 1)
	st.clients.release()
	if cap(buf) <= 4*statsPiece {
		*pooled = buf[:0]
		statsPool.Put(pooled)
	}
	return total, err
}

// SupportsBodyWriteTo tells the HTTP library that WriteTo is all there is.
func (st *statsStream) SupportsBodyWriteTo() bool { return true }

// Read is there because a body must be a reader.
func (st *statsStream) Read([]byte) (int, error) {
	panic("BUG: a stream of statistics is written, not read")
}

// clientLists are the consumers of each channel, as lists through next, and the producers; a connection that is both stands in both.
type clientLists struct {
	connections Connections
	first       map[*fanout.Channel]int32 // 1 + the number of a channel's first client
	next        []int32                   // 1 + the number of the next of the same channel; 0 = none
	producers   []int32
}

var listsPool = sync.Pool{New: func() any { return &clientLists{first: map[*fanout.Channel]int32{}} }}

func groupClients(connections Connections) *clientLists {
	l := listsPool.Get().(*clientLists)
	n := connections.Len()
	l.connections = connections
	l.next = slices.Grow(l.next[:0], n)[:n]
	clear(l.next)
	l.producers = l.producers[:0]
	for i := n - 1; i >= 0; i-- {
		if ch := connections.Subscription(i); ch != nil {
			l.next[i] = l.first[ch]
			l.first[ch] = int32(i + 1)
		}
		if connections.Publishes(i) {
			l.producers = append(l.producers, int32(i))
		}
	}
	slices.Reverse(l.producers)
	return l
}

// release gives everything back. nil has nothing.
func (l *clientLists) release() {
	if l == nil {
		return
	}
	l.connections.Release()
	l.connections = nil
	clear(l.first)
	listsPool.Put(l)
}

// show fetches one connection. A count of publishes is shown for one topic only: the wanted one, or without that the first. The result is valid
// until the next call.
func (st *statsStream) show(i int32) *Client {
	c := &st.client
	st.clients.connections.Show(int(i), c)
	for j := range c.Published {
		if st.q.topic == "" || c.Published[j].Topic == st.q.topic {
			c.PubCounts = c.Published[j : j+1]
			return c
		}
	}
	c.PubCounts = nil
	return c
}

// consumers calls f for each consumer of a channel, with its number among them. No calls if clients were not asked for.
func (st *statsStream) consumers(ch *fanout.Channel, f func(n int, c *Client)) {
	if st.clients == nil {
		return
	}
	n := 0
	for i := st.clients.first[ch]; i != 0; i = st.clients.next[i-1] {
		f(n, st.show(i-1))
		n++
	}
}

// producers calls f for each producer, with its number among them, and returns how many there are.
func (st *statsStream) producers(f func(n int, c *Client)) int {
	if st.clients == nil {
		return 0
	}
	for n, i := range st.clients.producers {
		f(n, st.show(i))
	}
	return len(st.clients.producers)
}

// collect converts one topic without its channels' clients. Its channels are valid until the next call. false: it does not have the wanted channel.
func (st *statsStream) collect(topic *fanout.Topic) (topicStats, bool) {
	from := topic.StatsInto(st.figures)
	st.figures, st.channels = from.Channels, st.channels[:0]
	for i := range from.Channels {
		c := &from.Channels[i]
		if st.q.channel != "" && st.q.channel != c.Name {
			continue
		}
		st.channels = append(st.channels, channelStats{
			Channel: c.Channel, Name: c.Name, Depth: c.Depth, BackendDepth: c.BackendDepth, InFlightCount: c.InFlight, DeferredCount: c.Deferred,
			MessageCount: c.MessageCount, GlobalCount: c.GlobalMsgCount, RequeueCount: c.RequeueCount, TimeoutCount: c.TimeoutCount,
			ClientCount: c.ClientCount, Paused: c.Paused, Latency: latencyFrom(c.Latency),
		})
	}
	return topicStats{
		Name: from.Name, Depth: from.Depth, BackendDepth: from.BackendDepth, MessageCount: from.MessageCount,
		MessageBytes: from.MessageBytes, Paused: from.Paused, Latency: latencyFrom(from.Latency), Channels: st.channels,
	}, st.q.channel == "" || len(st.channels) > 0
}
