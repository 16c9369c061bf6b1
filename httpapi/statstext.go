package httpapi

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"time"
)

// statsText is /stats for people.
func (s *Server) statsText(r *report) []byte {
	now := time.Now()
	var w bytes.Buffer
	fmt.Fprintf(&w, "%s\n", s.o.Built)
	fmt.Fprintf(&w, "start_time %s\n", s.o.StartTime.Format(time.RFC3339))
	fmt.Fprintf(&w, "uptime %s\n", now.Sub(s.o.StartTime))
	fmt.Fprintf(&w, "\nHealth: %s\n", r.Health)
	if r.Memory != nil {
		memoryText(&w, r.Memory)
	}
	if len(r.Topics) == 0 {
		w.WriteString("\nTopics: None\n")
	} else {
		w.WriteString("\nTopics:")
	}
	for i := range r.Topics {
		topicText(&w, &r.Topics[i], now)
	}
	if len(r.Producers) == 0 {
		w.WriteString("\nProducers: None\n")
	} else {
		w.WriteString("\nProducers:\n")
	}
	for i := range r.Producers {
		fmt.Fprintf(&w, "   %s\n", clientText(&r.Producers[i], now))
	}
	return w.Bytes()
}

func memoryText(w *bytes.Buffer, m *memory) {
	w.WriteString("\nMemory:\n")
	for _, line := range []struct {
		name  string
		value uint64
	}{
		{"heap_objects", m.HeapObjects},
		{"heap_idle_bytes", m.HeapIdleBytes},
		{"heap_in_use_bytes", m.HeapInUseBytes},
		{"heap_released_bytes", m.HeapReleasedBytes},
		{"gc_pause_usec_100", m.GCPauseUsec100},
		{"gc_pause_usec_99", m.GCPauseUsec99},
		{"gc_pause_usec_95", m.GCPauseUsec95},
		{"next_gc_bytes", m.NextGCBytes},
		{"gc_total_runs", m.GCTotalRuns},
	} {
		fmt.Fprintf(w, "   %-25s\t%d\n", line.name, line.value)
	}
}

func topicText(w *bytes.Buffer, t *topicStats, now time.Time) {
	fmt.Fprintf(w, "\n%s[%-15s] depth: %-5d be-depth: %-5d msgs: %-8d e2e%%: %s\n",
		pausedMark(t.Paused, "*P ", "   "), t.Name, t.Depth, t.BackendDepth, t.MessageCount, latencyText(t.Latency))
	for i := range t.Channels {
		c := &t.Channels[i]
		fmt.Fprintf(w, "%s[%-25s] depth: %-5d be-depth: %-5d inflt: %-4d def: %-4d re-q: %-5d timeout: %-5d msgs: %-8d e2e%%: %s\n",
			pausedMark(c.Paused, "   *P ", "      "), c.Name, c.Depth, c.BackendDepth, c.InFlightCount, c.DeferredCount,
			c.RequeueCount, c.TimeoutCount, c.MessageCount, latencyText(c.Latency))
		for j := range c.Clients {
			fmt.Fprintf(w, "        %s\n", clientText(&c.Clients[j], now))
		}
	}
}

// latencyText is the values of the percentiles, for people.
func latencyText(l latency) string {
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
func clientText(c *Client, now time.Time) string {
	if len(c.PubCounts) == 0 {
		return fmt.Sprintf("[%s %-21s] state: %d inflt: %-4d rdy: %-4d fin: %-8d re-q: %-8d msgs: %-8d connected: %s",
			c.Version, clientName(c), c.State, c.InFlightCount, c.ReadyCount, c.FinishCount, c.RequeueCount, c.MessageCount,
			connectedFor(c, now))
	}
	var total uint64
	var topics string
	for _, p := range c.PubCounts {
		total += p.Count
		topics += fmt.Sprintf("%s=%d ", p.Topic, p.Count)
	}
	return fmt.Sprintf("[%s %-21s] msgs: %-8d topics: %sconnected: %s", c.Version, clientName(c), total, topics, connectedFor(c, now))
}
