package httpapi

import "github.com/nsqloop/nsqloop/fanout"

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
	Clients        []Client `json:"clients"`
	Paused         bool     `json:"paused"`
	Latency        latency  `json:"e2e_processing_latency"`
}

// report is the whole answer of /stats. nil and empty lists are told apart on the wire: see collect.
type report struct {
	Version   string       `json:"version"`
	Health    string       `json:"health"`
	StartTime int64        `json:"start_time"`
	Topics    []topicStats `json:"topics"`
	Memory    *memory      `json:"memory,omitempty"`
	Producers []Client     `json:"producers"`
}

// statsQuery holds the parameters of /stats.
type statsQuery struct {
	topic, channel string // "" = all
	clients, mem   bool
	json           bool
}

func parseStatsQuery(args query) statsQuery {
	q := statsQuery{clients: flagParam(args, "include_clients"), mem: flagParam(args, "include_mem")}
	topic, _ := args.get("topic")
	channel, _ := args.get("channel")
	format, _ := args.get("format")
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
	report := s.collect(q)
	if q.json {
		return jsonReply(report)
	}
	return reply{body: s.statsText(report)}
}

// collect gathers what q asks for. A topic that does not exist makes both lists null; topics that lack the wanted channel are left out.
func (s *Server) collect(q statsQuery) *report {
	out := &report{Version: s.o.Version, Health: health(s.o.Broker.Health()), StartTime: s.o.StartTime.Unix()}
	if q.mem {
		m := readMemory()
		out.Memory = &m
	}
	topics := s.o.Broker.Topics()
	if q.topic != "" {
		topic := s.o.Broker.LookupTopic(q.topic)
		if topic == nil {
			return out
		}
		topics = []*fanout.Topic{topic}
	}
	var consumers map[channelKey][]Client
	if q.clients {
		consumers, out.Producers = s.clients(q.topic)
	}
	out.Topics = make([]topicStats, 0, len(topics))
	for _, topic := range topics {
		if t, ok := collectTopic(topic, q, consumers); ok {
			out.Topics = append(out.Topics, t)
		}
	}
	return out
}

type channelKey struct{ topic, channel string }

// clients sorts the connections into consumers by channel and producers; one that is both stands in both. A count of publishes is shown
// for one topic only: the wanted one, or without that the first.
func (s *Server) clients(topic string) (consumers map[channelKey][]Client, producers []Client) {
	consumers = make(map[channelKey][]Client)
	for _, c := range s.o.Clients() {
		for i, count := range c.Published {
			if topic == "" || count.Topic == topic {
				c.PubCounts = c.Published[i : i+1]
				break
			}
		}
		if c.Channel != "" {
			key := channelKey{c.Topic, c.Channel}
			consumers[key] = append(consumers[key], c)
		}
		if len(c.Published) > 0 {
			producers = append(producers, c)
		}
	}
	return consumers, producers
}

// collectTopic converts one topic. false: it does not have the wanted channel.
func collectTopic(topic *fanout.Topic, q statsQuery, consumers map[channelKey][]Client) (topicStats, bool) {
	from := topic.Stats()
	to := topicStats{
		Name: from.Name, Depth: from.Depth, BackendDepth: from.BackendDepth, MessageCount: from.MessageCount,
		MessageBytes: from.MessageBytes, Paused: from.Paused, Latency: latencyFrom(from.Latency), Channels: make([]channelStats, 0, len(from.Channels)),
	}
	for i := range from.Channels {
		c := &from.Channels[i]
		if q.channel != "" && q.channel != c.Name {
			continue
		}
		to.Channels = append(to.Channels, channelStats{
			Name: c.Name, Depth: c.Depth, BackendDepth: c.BackendDepth, InFlightCount: c.InFlight, DeferredCount: c.Deferred,
			MessageCount: c.MessageCount, GlobalCount: c.GlobalMsgCount, RequeueCount: c.RequeueCount, TimeoutCount: c.TimeoutCount,
			ClientCount: c.ClientCount, Paused: c.Paused, Latency: latencyFrom(c.Latency), Clients: channelClients(q, consumers[channelKey{from.Name, c.Name}]),
		})
	}
	return to, q.channel == "" || len(to.Channels) > 0
}

// channelClients is null when clients were not asked for, and a list otherwise.
func channelClients(q statsQuery, clients []Client) []Client {
	if q.clients && clients == nil {
		return []Client{}
	}
	return clients
}
