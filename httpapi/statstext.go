package httpapi

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// text is /stats for people; flush sends what there is if it is at least so much.
func (st *statsStream) text(b []byte, flush func(b []byte, least int) []byte) []byte {
	o := &st.s.o
	b = fmt.Appendf(b, "%s\nstart_time %s\nuptime %s\n\nHealth: %s\n", o.Built, o.StartTime.Format(time.RFC3339), st.now.Sub(o.StartTime),
		health(o.Broker.Health()))
	if st.q.mem {
		m := readMemory()
		b = memoryText(b, &m)
	}
	if st.q.durability {
		d := st.s.durability()
		b = fmt.Appendf(b, "\nDurability:\n   sync_policy %s\n   unsynced: %d messages, %d bytes\n   segments: %d, %d bytes\n   damaged: %d messages\n",
			d.SyncPolicy, d.UnsyncedMessages, d.UnsyncedBytes, d.Segments, d.SegmentBytes, d.DamagedMessages)
	}
	any := false
	for _, topic := range st.topics {
		t, ok := st.collect(topic)
		if !ok {
			continue
		}
		if !any {
			b = append(b, "\nTopics:"...)
		}
		any = true
		b = topicText(b, &t)
		for i := range t.Channels {
			c := &t.Channels[i]
			b = channelText(b, c)
			st.consumers(c.Channel, func(_ int, client *Client) {
				b = append(b, "        "...)
				b = flush(append(clientText(b, client, st.now), '\n'), statsPiece)
			})
			b = flush(b, statsPiece)
		}
	}
	if !any {
		b = append(b, "\nTopics: None\n"...)
	}
	producers := st.producers(func(n int, c *Client) {
		if n == 0 {
			b = append(b, "\nProducers:\n"...)
		}
		b = append(b, "   "...)
		b = flush(append(clientText(b, c, st.now), '\n'), statsPiece)
	})
	if producers == 0 {
		b = append(b, "\nProducers: None\n"...)
	}
	return b
}

func memoryText(b []byte, m *memory) []byte {
	b = append(b, "\nMemory:\n"...)
	for _, line := range append(m.gauges(), memoryGauge{"gc_total_runs", m.GCTotalRuns}) {
		b = fmt.Appendf(b, "   %-25s\t%d\n", line.name, line.value)
	}
	return b
}

func topicText(b []byte, t *topicStats) []byte {
	b = append(b, '\n')
	b = append(b, pausedMark(t.Paused, "*P ", "   ")...)
	b = append(padded(append(b, '['), t.Name, 15), "] depth: "...)
	b = append(paddedInt(b, t.Depth, 5), " be-depth: "...)
	b = append(paddedInt(b, t.BackendDepth, 5), " msgs: "...)
	b = append(paddedInt(b, int64(t.MessageCount), 8), " e2e%: "...)
	b = append(b, latencyText(t.Latency)...)
	return append(b, '\n')
}

func channelText(b []byte, c *channelStats) []byte {
	b = append(b, pausedMark(c.Paused, "   *P ", "      ")...)
	b = append(padded(append(b, '['), c.Name, 25), "] depth: "...)
	b = append(paddedInt(b, c.Depth, 5), " be-depth: "...)
	b = append(paddedInt(b, c.BackendDepth, 5), " inflt: "...)
	b = append(paddedInt(b, c.InFlightCount, 4), " def: "...)
	b = append(paddedInt(b, c.DeferredCount, 4), " re-q: "...)
	b = append(paddedInt(b, int64(c.RequeueCount), 5), " timeout: "...)
	b = append(paddedInt(b, int64(c.TimeoutCount), 5), " msgs: "...)
	b = append(paddedInt(b, int64(c.MessageCount), 8), " e2e%: "...)
	b = append(b, latencyText(c.Latency)...)
	return append(b, '\n')
}

// padded appends text and spaces up to width characters.
func padded(b []byte, text string, width int) []byte {
	return fill(append(b, text...), width-utf8.RuneCountInString(text))
}

func paddedInt(b []byte, n int64, width int) []byte {
	before := len(b)
	b = strconv.AppendInt(b, n, 10)
	return fill(b, width-(len(b)-before))
}

// fill appends n spaces; n may be negative.
func fill(b []byte, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, ' ')
	}
	return b
}

// latencyText is the values of the percentiles, for people.
func latencyText(l latency) string {
	if len(l.Percentiles) == 0 {
		return ""
	}
	var text []string
	for _, p := range l.Percentiles {
		switch v := p.Value; {
		case v > 1e9:
			text = append(text, fmt.Sprintf("%.1fs", v/1e9))
		case v > 1e6:
			text = append(text, fmt.Sprintf("%.1fms", v/1e6))
		case v > 1e3:
			text = append(text, fmt.Sprintf("%.1fus", v/1e3))
		default:
			text = append(text, fmt.Sprintf("%.1fns", v))
		}
	}
	return strings.Join(text, ", ")
}

func pausedMark(paused bool, mark, blank string) string {
	if paused {
		return mark
	}
	return blank
}

// clientName is the host a connection called itself with the port it comes from, and its user agent.
func clientName(c *Client) string {
	name := c.Hostname
	if _, port, err := net.SplitHostPort(c.RemoteAddress); err == nil {
		name = net.JoinHostPort(c.Hostname, port)
	}
	if c.UserAgent != "" {
		name += " " + c.UserAgent
	}
	return name
}

func connectedFor(c *Client, now time.Time) time.Duration {
	return now.Sub(time.Unix(c.ConnectTime, 0)).Truncate(time.Second)
}

// clientText is the line of one connection. One with a count of publishes shows that, also where it stands as a consumer.
func clientText(b []byte, c *Client, now time.Time) []byte {
	b = append(append(append(b, '['), c.Version...), ' ')
	b = append(padded(b, clientName(c), 21), ']')
	if len(c.PubCounts) == 0 {
		b = append(b, " state: "...)
		b = append(strconv.AppendInt(b, int64(c.State), 10), " inflt: "...)
		b = append(paddedInt(b, c.InFlightCount, 4), " rdy: "...)
		b = append(paddedInt(b, c.ReadyCount, 4), " fin: "...)
		b = append(paddedInt(b, int64(c.FinishCount), 8), " re-q: "...)
		b = append(paddedInt(b, int64(c.RequeueCount), 8), " msgs: "...)
		b = append(paddedInt(b, int64(c.MessageCount), 8), " connected: "...)
		return append(b, connectedFor(c, now).String()...)
	}
	var total uint64
	for _, p := range c.PubCounts {
		total += p.Count
	}
	b = append(paddedInt(append(b, " msgs: "...), int64(total), 8), " topics: "...)
	for _, p := range c.PubCounts {
		b = append(append(b, p.Topic...), '=')
		b = append(strconv.AppendUint(b, p.Count, 10), ' ')
	}
	return append(append(b, "connected: "...), connectedFor(c, now).String()...)
}
