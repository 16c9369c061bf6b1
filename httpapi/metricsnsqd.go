package httpapi

import (
	"slices"

	"github.com/nsqloop/nsqloop/fanout"
	dto "github.com/prometheus/client_model/go"
)

const (
	gauge   = dto.MetricType_GAUGE
	counter = dto.MetricType_COUNTER
)

// topicSeries and channelSeries are what is told of every topic and channel: one series each.
var topicSeries = []struct {
	name, help string
	kind       dto.MetricType
	value      func(t *fanout.TopicStats) float64
}{
	{"nsqd_topic_depth", "Messages not yet handed to the topic's channels.", gauge, func(t *fanout.TopicStats) float64 { return float64(t.Depth) }},
	{"nsqd_topic_messages_total", "Messages published since start.", counter, func(t *fanout.TopicStats) float64 { return float64(t.MessageCount) }},
	{"nsqd_topic_bytes_total", "Bytes of bodies published since start.", counter, func(t *fanout.TopicStats) float64 { return float64(t.MessageBytes) }},
	{"nsqd_topic_paused", "1 while the topic is paused.", gauge, func(t *fanout.TopicStats) float64 { return truth(t.Paused) }},
}

var channelSeries = []struct {
	name, help string
	kind       dto.MetricType
	value      func(c *fanout.ChannelStats) float64
}{
	{"nsqd_channel_depth", "Messages waiting to be delivered.", gauge, func(c *fanout.ChannelStats) float64 { return float64(c.Depth) }},
	{"nsqd_channel_in_flight", "Messages delivered and not yet answered.", gauge, func(c *fanout.ChannelStats) float64 { return float64(c.InFlight) }},
	{"nsqd_channel_deferred", "Messages whose time has not come.", gauge, func(c *fanout.ChannelStats) float64 { return float64(c.Deferred) }},
	{"nsqd_channel_oldest_seconds", "Age of the oldest message that is not finished, of one published with a delay since it is due; 0 without any.", gauge,
		func(c *fanout.ChannelStats) float64 { return c.Oldest.Seconds() }},
	{"nsqd_channel_messages_total", "Messages that reached the channel since start.", counter, func(c *fanout.ChannelStats) float64 { return float64(c.MessageCount) }},
	{"nsqd_channel_delivered_total", "Deliveries since start.", counter, func(c *fanout.ChannelStats) float64 { return float64(c.GlobalMsgCount) }},
	{"nsqd_channel_finished_total", "Messages finished by consumers since start.", counter, func(c *fanout.ChannelStats) float64 { return float64(c.FinishCount) }},
	{"nsqd_channel_requeued_total", "Messages requeued by consumers since start.", counter, func(c *fanout.ChannelStats) float64 { return float64(c.RequeueCount) }},
	{"nsqd_channel_timeouts_total", "Deliveries since start that ended by time-out or a lost connection.", counter, func(c *fanout.ChannelStats) float64 { return float64(c.TimeoutCount) }},
	{"nsqd_channel_clients", "Connected consumers.", gauge, func(c *fanout.ChannelStats) float64 { return float64(c.ClientCount) }},
	{"nsqd_channel_paused", "1 while the channel is paused.", gauge, func(c *fanout.ChannelStats) float64 { return truth(c.Paused) }},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// exposeNsqd writes everything nsqd tells.
func exposeNsqd(s *Server, x *exposition) {
	s.exposeProcess(x, "nsqd")
	s.exposeTraffic(x)
	s.exposeStore(x)
	s.exposeQueues(x)
}

// exposeProcess writes the figures of the process and its runtime, and mapped and anonymous memory apart: of a broker that maps its data only
// the second is its own.
func (s *Server) exposeProcess(x *exposition, daemon string) {
	families, err := s.process.Gather()
	if err != nil {
		s.o.Log.Warnf("metrics: %s", err) // what could be read is written
	}
	for _, f := range families {
		x.family(f)
	}
	if anonymous, file, err := residentMemory(); err != nil {
		s.o.Log.Warnf("metrics: %s", err)
	} else {
		x.single(daemon+"_memory_anonymous_bytes", "Resident memory that is the process's own.", gauge, anonymous)
		x.single(daemon+"_memory_mapped_bytes", "Resident pages of mapped files, which the kernel takes back when it needs them.", gauge, file)
	}
}

func (s *Server) exposeTraffic(x *exposition) {
	t := s.o.Traffic()
	x.single("nsqd_connections", "Open client connections.", gauge, float64(t.Connections))
	x.single("nsqd_connections_accepted_total", "Client connections accepted since start.", counter, float64(t.Accepted))
	x.single("nsqd_connections_refused_total", "Client connections closed at once since start: too many, or no descriptor.", counter, float64(t.RefusedConnections))
	x.single("nsqd_panics_total", "Internal faults since start, each of which cost one connection at most.", counter, float64(t.Panics))
	x.histogram("nsqd_loop_answer_seconds", "How long event loops took to answer when asked; asked ten times a second while somebody scrapes.", t.Answer)
	refused := newFamily("nsqd_refused_total", "Error answers to clients since start, by code.", counter)
	codes := make([]string, 0, len(t.Errors))
	for code := range t.Errors {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		add(refused, []*dto.LabelPair{label("code", code)}, float64(t.Errors[code]))
	}
	x.family(refused)
}

func (s *Server) exposeStore(x *exposition) {
	u := s.o.Broker.Usage()
	x.single("nsqd_healthy", "1 while publishing is possible.", gauge, truth(s.o.Broker.Health() == nil))
	x.single("nsqd_segments", "Segments that hold messages.", gauge, float64(u.Segments))
	x.single("nsqd_segment_bytes", "Bytes of those segments' files.", gauge, float64(u.SegmentBytes))
	x.single("nsqd_unsynced_messages", "Acknowledged messages that a power cut would lose now.", gauge, float64(u.UnsyncedMessages))
	x.single("nsqd_unsynced_bytes", "Their bytes.", gauge, float64(u.UnsyncedBytes))
	x.single("nsqd_damaged_messages_total", "Stored messages that failed their checksum since start.", counter, float64(u.Damaged))
	x.histogram("nsqd_sync_seconds", "Duration of sync rounds.", u.Sync)
	x.histogram("nsqd_delivery_to_finish_seconds", "Time from delivery to FIN.", u.DeliveryToFinish)
	x.histogram("nsqd_publish_to_delivery_seconds", "Time from publish to first delivery.", u.PublishToDelivery)
}

// exposeQueues writes the series of topics and channels, by name, until the bound on series is reached; how many were left out is told.
func (s *Server) exposeQueues(x *exposition) {
	var topics []fanout.TopicStats
	omitted := 0
	for _, topic := range s.o.Broker.Topics() {
		if x.left < len(topicSeries) {
			omitted += len(topicSeries) + len(topic.Channels())*len(channelSeries)
			continue
		}
		t := topic.Stats()
		oldest(topic, &t)
		x.left -= len(topicSeries)
		if most := x.left / len(channelSeries); len(t.Channels) > most {
			omitted += (len(t.Channels) - most) * len(channelSeries)
			t.Channels = t.Channels[:most]
			x.left = 0
		} else {
			x.left -= len(t.Channels) * len(channelSeries)
		}
		topics = append(topics, t)
	}
	x.single("nsqd_omitted_series", "Series of topics and channels beyond --metrics-max-series, which are left out.", gauge, float64(omitted))
	var topicLabels, channelLabels labelSet
	var channels []*fanout.ChannelStats
	for i := range topics {
		t := &topics[i]
		topicLabels.add(t.Name, "")
		for j := range t.Channels {
			channelLabels.add(t.Name, t.Channels[j].Name)
			channels = append(channels, &t.Channels[j])
		}
	}
	for _, f := range topicSeries {
		x.series(f.name, f.help, f.kind, &topicLabels, func(i int) float64 { return f.value(&topics[i]) })
	}
	for _, f := range channelSeries {
		x.series(f.name, f.help, f.kind, &channelLabels, func(i int) float64 { return f.value(channels[i]) })
	}
}

// oldest fills in what only /metrics tells, because it may read the disk.
func oldest(topic *fanout.Topic, t *fanout.TopicStats) {
	now := fanout.Now()
	for i := range t.Channels {
		if ch := topic.LookupChannel(t.Channels[i].Name); ch != nil {
			t.Channels[i].Oldest = ch.Oldest(now)
		}
	}
}
