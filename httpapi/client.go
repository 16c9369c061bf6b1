package httpapi

import "github.com/nsqloop/nsqloop/fanout"

// Connections are the TCP connections at one moment, numbered from 0. They belong to one goroutine.
type Connections interface {
	Len() int
	// Subscription is what a connection consumes; nil for nothing.
	Subscription(i int) *fanout.Channel
	// Publishes tells whether a connection has published.
	Publishes(i int) bool
	// Show fills in everything about a connection but PubCounts; what c held before is overwritten.
	Show(i int, c *Client)
	// Release ends the use of everything that was shown.
	Release()
}

// Client is one TCP connection as /stats shows it. The order of the fields is part of the API. ID and Hostname are those of IDENTIFY, or
// the peer's address before it.
type Client struct {
	// Published holds a count per topic; a connection with none is not a producer.
	Published []PubCount `json:"-"`

	ID              string `json:"client_id"`
	Hostname        string `json:"hostname"`
	Version         string `json:"version"` // of the protocol: "V2"
	RemoteAddress   string `json:"remote_address"`
	State           int32  `json:"state"` // 0 init, 1 disconnected, 2 connected, 3 subscribed, 4 closing
	ReadyCount      int64  `json:"ready_count"`
	InFlightCount   int64  `json:"in_flight_count"`
	MessageCount    uint64 `json:"message_count"`
	ZoneLocalCount  uint64 `json:"zone_local_msg_count,omitempty"` // never set on clients, as in the stock daemon
	RegionCount     uint64 `json:"region_local_msg_count,omitempty"`
	GlobalCount     uint64 `json:"global_msg_count,omitempty"`
	FinishCount     uint64 `json:"finish_count"`
	RequeueCount    uint64 `json:"requeue_count"`
	ConnectTime     int64  `json:"connect_ts"` // unix seconds
	SampleRate      int32  `json:"sample_rate"`
	Deflate         bool   `json:"deflate"`
	Snappy          bool   `json:"snappy"`
	UserAgent       string `json:"user_agent"`
	Authed          bool   `json:"authed,omitempty"`
	AuthIdentity    string `json:"auth_identity,omitempty"`
	AuthIdentityURL string `json:"auth_identity_url,omitempty"`
	TopologyZone    string `json:"topology_zone"`
	TopologyRegion  string `json:"topology_region"`

	PubCounts []PubCount `json:"pub_counts,omitempty"` // at most one, see stats; not for the filler

	TLS                 bool   `json:"tls"`
	TLSCipherSuite      string `json:"tls_cipher_suite"`
	TLSVersion          string `json:"tls_version"`
	TLSProtocol         string `json:"tls_negotiated_protocol"`
	TLSProtocolIsMutual bool   `json:"tls_negotiated_protocol_is_mutual"`
}

// PubCount is how many messages a connection has published to one topic.
type PubCount struct {
	Topic string `json:"topic"`
	Count uint64 `json:"count"`
}
