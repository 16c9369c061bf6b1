package httpapi

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The JSON of /stats, written by hand: a node with ten thousand channels is polled as often as a small one. The types of stats.go and client.go say
// what it must look like; a test holds the two against each other through encoding/json.

// json writes everything; flush sends what there is if it is at least so much.
func (st *statsStream) json(b []byte, flush func(b []byte, least int) []byte) []byte {
	b = append(b, `{"version":`...)
	b = appendString(b, st.s.o.Version)
	b = append(b, `,"health":`...)
	b = appendString(b, health(st.s.o.Broker.Health()))
	b = append(b, `,"start_time":`...)
	b = strconv.AppendInt(b, st.s.o.StartTime.Unix(), 10)
	b = append(b, `,"topics":`...)
	if st.unknown {
		b = append(b, `null`...)
	} else {
		b = append(b, '[')
		first := true
		for _, topic := range st.topics {
			t, ok := st.collect(topic)
			if !ok {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = st.appendTopic(b, &t, flush)
			b = flush(b, statsPiece)
		}
		b = append(b, ']')
	}
	if st.q.mem {
		b = append(b, `,"memory":`...)
		b = appendJSON(b, readMemory())
	}
	if st.q.durability {
		b = append(b, `,"durability":`...)
		b = appendJSON(b, st.s.durability())
	}
	b = append(b, `,"producers":`...)
	producers := st.producers(func(n int, c *Client) {
		b = append(b, "[,"[min(n, 1)])
		b = flush(appendClient(b, c), statsPiece)
	})
	if producers == 0 {
		return append(b, `null}`...)
	}
	return append(b, `]}`...)
}

func (st *statsStream) appendTopic(b []byte, t *topicStats, flush func(b []byte, least int) []byte) []byte {
	b = append(b, `{"topic_name":`...)
	b = appendString(b, t.Name)
	b = append(b, `,"channels":[`...)
	for i := range t.Channels {
		if i > 0 {
			b = append(b, ',')
		}
		c := &t.Channels[i]
		b = appendChannelHead(b, c)
		if st.clients == nil {
			b = append(b, `null`...)
		} else {
			b = append(b, '[')
			st.consumers(c.Channel, func(n int, client *Client) {
				if n > 0 {
					b = append(b, ',')
				}
				b = flush(appendClient(b, client), statsPiece)
			})
			b = append(b, ']')
		}
		b = flush(appendChannelTail(b, c), statsPiece)
	}
	b = append(b, `],"depth":`...)
	b = strconv.AppendInt(b, t.Depth, 10)
	b = append(b, `,"backend_depth":`...)
	b = strconv.AppendInt(b, t.BackendDepth, 10)
	b = append(b, `,"message_count":`...)
	b = strconv.AppendUint(b, t.MessageCount, 10)
	b = append(b, `,"message_bytes":`...)
	b = strconv.AppendUint(b, t.MessageBytes, 10)
	b = append(b, `,"paused":`...)
	b = strconv.AppendBool(b, t.Paused)
	b = append(b, `,"e2e_processing_latency":`...)
	b = appendLatency(b, t.Latency)
	return append(b, '}')
}

// appendChannelHead begins the object of a channel, up to the value of clients.
func appendChannelHead(b []byte, c *channelStats) []byte {
	b = append(b, `{"channel_name":`...)
	b = appendString(b, c.Name)
	b = append(b, `,"depth":`...)
	b = strconv.AppendInt(b, c.Depth, 10)
	b = append(b, `,"backend_depth":`...)
	b = strconv.AppendInt(b, c.BackendDepth, 10)
	b = append(b, `,"in_flight_count":`...)
	b = strconv.AppendInt(b, c.InFlightCount, 10)
	b = append(b, `,"deferred_count":`...)
	b = strconv.AppendInt(b, c.DeferredCount, 10)
	b = append(b, `,"message_count":`...)
	b = strconv.AppendUint(b, c.MessageCount, 10)
	b = appendUnlessZero(b, `,"zone_local_msg_count":`, c.ZoneLocalCount)
	b = appendUnlessZero(b, `,"region_local_msg_count":`, c.RegionCount)
	b = appendUnlessZero(b, `,"global_msg_count":`, c.GlobalCount)
	b = append(b, `,"requeue_count":`...)
	b = strconv.AppendUint(b, c.RequeueCount, 10)
	b = append(b, `,"timeout_count":`...)
	b = strconv.AppendUint(b, c.TimeoutCount, 10)
	b = append(b, `,"client_count":`...)
	b = strconv.AppendInt(b, int64(c.ClientCount), 10)
	return append(b, `,"clients":`...)
}

// appendChannelTail ends it.
func appendChannelTail(b []byte, c *channelStats) []byte {
	b = append(b, `,"paused":`...)
	b = strconv.AppendBool(b, c.Paused)
	b = append(b, `,"e2e_processing_latency":`...)
	b = appendLatency(b, c.Latency)
	return append(b, '}')
}

func appendClient(b []byte, c *Client) []byte {
	b = append(b, `{"client_id":`...)
	b = appendString(b, c.ID)
	b = append(b, `,"hostname":`...)
	b = appendString(b, c.Hostname)
	b = append(b, `,"version":`...)
	b = appendString(b, c.Version)
	b = append(b, `,"remote_address":`...)
	b = appendString(b, c.RemoteAddress)
	b = append(b, `,"state":`...)
	b = strconv.AppendInt(b, int64(c.State), 10)
	b = append(b, `,"ready_count":`...)
	b = strconv.AppendInt(b, c.ReadyCount, 10)
	b = append(b, `,"in_flight_count":`...)
	b = strconv.AppendInt(b, c.InFlightCount, 10)
	b = append(b, `,"message_count":`...)
	b = strconv.AppendUint(b, c.MessageCount, 10)
	b = appendUnlessZero(b, `,"zone_local_msg_count":`, c.ZoneLocalCount)
	b = appendUnlessZero(b, `,"region_local_msg_count":`, c.RegionCount)
	b = appendUnlessZero(b, `,"global_msg_count":`, c.GlobalCount)
	b = append(b, `,"finish_count":`...)
	b = strconv.AppendUint(b, c.FinishCount, 10)
	b = append(b, `,"requeue_count":`...)
	b = strconv.AppendUint(b, c.RequeueCount, 10)
	b = append(b, `,"connect_ts":`...)
	b = strconv.AppendInt(b, c.ConnectTime, 10)
	b = append(b, `,"sample_rate":`...)
	b = strconv.AppendInt(b, int64(c.SampleRate), 10)
	b = append(b, `,"deflate":`...)
	b = strconv.AppendBool(b, c.Deflate)
	b = append(b, `,"snappy":`...)
	b = strconv.AppendBool(b, c.Snappy)
	b = append(b, `,"user_agent":`...)
	b = appendString(b, c.UserAgent)
	if c.Authed {
		b = append(b, `,"authed":true`...)
	}
	b = appendUnlessEmpty(b, `,"auth_identity":`, c.AuthIdentity)
	b = appendUnlessEmpty(b, `,"auth_identity_url":`, c.AuthIdentityURL)
	b = append(b, `,"topology_zone":`...)
	b = appendString(b, c.TopologyZone)
	b = append(b, `,"topology_region":`...)
	b = appendString(b, c.TopologyRegion)
	if len(c.PubCounts) > 0 {
		b = append(b, `,"pub_counts":`...)
		b = appendJSON(b, c.PubCounts)
	}
	return appendTLS(b, c)
}

// appendTLS ends the object of a client; most have no TLS.
func appendTLS(b []byte, c *Client) []byte {
	if !c.TLS && c.TLSCipherSuite == "" && c.TLSVersion == "" && c.TLSProtocol == "" && !c.TLSProtocolIsMutual {
		return append(b, `,"tls":false,"tls_cipher_suite":"","tls_version":"","tls_negotiated_protocol":"","tls_negotiated_protocol_is_mutual":false}`...)
	}
	b = append(b, `,"tls":`...)
	b = strconv.AppendBool(b, c.TLS)
	b = append(b, `,"tls_cipher_suite":`...)
	b = appendString(b, c.TLSCipherSuite)
	b = append(b, `,"tls_version":`...)
	b = appendString(b, c.TLSVersion)
	b = append(b, `,"tls_negotiated_protocol":`...)
	b = appendString(b, c.TLSProtocol)
	b = append(b, `,"tls_negotiated_protocol_is_mutual":`...)
	b = strconv.AppendBool(b, c.TLSProtocolIsMutual)
	return append(b, '}')
}

func appendUnlessZero(b []byte, key string, n uint64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendUint(append(b, key...), n, 10)
}

func appendUnlessEmpty(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	return appendString(append(b, key...), text)
}

func appendLatency(b []byte, l latency) []byte {
	if l.Count == 0 && l.Percentiles == nil {
		return append(b, `{"count":0,"percentiles":null}`...)
	}
	return appendJSON(b, l)
}

// appendString writes a JSON string as encoding/json does. Text without anything to escape, which is nearly all, is only copied.
func appendString(b []byte, text string) []byte {
	for i := range len(text) {
		if !plainByte[text[i]] {
			return appendJSON(b, text)
		}
	}
	b = append(b, '"')
	b = append(b, text...)
	return append(b, '"')
}

// plainByte marks what stands in a JSON string as it is.
var plainByte = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		plain[c] = !strings.ContainsRune("\"\\<>&", c)
	}
	return plain
}()

// appendJSON writes what is rare enough for encoding/json.
func appendJSON(b []byte, v any) []byte {
	text := jsonReply(v)
	return append(b, text.body...)
}
