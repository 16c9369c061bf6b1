package fanout

import (
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// TopicStats is one topic for /stats. Counts of messages and bytes are since process start.
type TopicStats struct {
	Name                       string
	Depth, BackendDepth        int64
	MessageCount, MessageBytes uint64
	Paused                     bool
	Channels                   []ChannelStats // sorted by name
	Latency                    Latency        // of all channels
}

// ChannelStats is one channel for /stats.
type ChannelStats struct {
	Channel                                  *Channel
	Name                                     string
	Depth, BackendDepth, InFlight, Deferred  int64
	MessageCount, RequeueCount, TimeoutCount uint64
	GlobalMsgCount                           uint64 // deliveries since start
	FinishCount                              uint64
	ClientCount                              int
	Paused                                   bool
	Latency                                  Latency
	Oldest                                   time.Duration // age of the oldest unfinished message, see Channel.Oldest, whose caller sets it
}

// Stats takes each lock shortly; figures of different channels are of slightly different moments.
func (t *Topic) Stats() TopicStats { return t.StatsInto(nil) }

// StatsInto is Stats with the memory of an earlier call's Channels, which are lost.
func (t *Topic) StatsInto(channels []ChannelStats) TopicStats {
	s := TopicStats{Name: t.name, Paused: t.paused.Load()}
	for i, l := range t.logs {
		m, n := l.Totals()
		s.MessageCount += m
		s.MessageBytes += n
		s.Depth += between(l, t.visible(mmapq.Stream(i)), l.Committed())
	}
	s.MessageCount += t.refused.messages.Load()
	s.MessageBytes += t.refused.bytes.Load()
	s.BackendDepth = max(0, s.Depth-t.b.opts.MemQueueSize)
	if t.ephemeral {
		s.BackendDepth = 0
	}
	list := t.Channels()
	s.Channels = slices.Grow(channels[:0], len(list))
	var meters []*latencyMeter
	for _, ch := range list {
		s.Channels = append(s.Channels, ch.Stats())
		if ch.latency != nil {
			meters = append(meters, ch.latency)
		}
	}
	s.Latency = latencyOf(t.b.opts.LatencyQuantiles, meters, Now())
	return s
}

// between counts the messages of [from, to).
func between(l *mmapq.Log, from, to mmapq.Pos) int64 {
	if to <= from {
		return 0
	}
	return max(0, int64(l.Ordinal(to)-l.Ordinal(from))-int64(l.DeadBetween(from, to)))
}

// Stats returns the channel's figures.
func (ch *Channel) Stats() ChannelStats {
	l := ch.t.logs[streamMain]
	var latency Latency
	if ch.latency != nil {
		latency = latencyOf(ch.latency.quantiles, []*latencyMeter{ch.latency}, Now())
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	limit := ch.t.visible(streamMain)
	ch.jumpSkips()
	if ch.ephemeral && ch.ready.Load() == 0 {
		ch.overflow(limit, ch.t.b.opts.MemQueueSize)
	}
	s := ChannelStats{
		Channel:      ch,
		Name:         ch.name,
		Depth:        ch.waiting(limit) + int64(ch.side.len()),
		Deferred:     int64(ch.deferred.len()),
		MessageCount: uint64(max(0, int64(l.Ordinal(limit)-ch.startOrd))) + ch.arrived,
		RequeueCount: uint64(ch.past.Requeued),
		FinishCount:  uint64(ch.past.Finished),
		TimeoutCount: ch.timeouts,
		ClientCount:  len(ch.consumers),
		Paused:       ch.paused.Load(),
		Latency:      latency,
	}
	delivered := ch.past.Messages
	for _, c := range ch.consumers {
		n := c.Counters()
		if c.epoch.Load() == ch.epoch.Load() { // else Empty dropped them, and the loop has not looked yet
			s.InFlight += n.InFlight
		}
		s.RequeueCount += uint64(n.Requeued)
		s.FinishCount += uint64(n.Finished)
		delivered += n.Messages
	}
	s.GlobalMsgCount = uint64(max(0, delivered))
	if !ch.ephemeral {
		s.BackendDepth = max(0, s.Depth-ch.t.b.opts.MemQueueSize)
	}
	return s
}
