package loop

import (
	"maps"
	"slices"
	"sync"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
)

// ClientStats is one connection at one moment. PubCounts is nil for a connection that never published; Channel is
// nil for one that does not consume.
type ClientStats struct {
	ClientID, Hostname, UserAgent string
	RemoteAddress                 string
	TopologyRegion, TopologyZone  string
	State                         codec.State
	ReadyCount                    int64 // RDY as the client set it
	InFlightCount                 int64
	MessageCount                  int64 // deliveries
	FinishCount, RequeueCount     int64
	ConnectTime                   int64 // Unix seconds
	SampleRate                    int32
	PubCounts                     map[string]uint64 // messages per topic
	Channel                       *fanout.Channel   // nil: it does not consume
	Deflate, Snappy               bool
	TLS                           *TLSInfo // nil without

	Authed                        bool // a server gave it at least one permission
	AuthIdentity, AuthIdentityURL string
}

// statsRequest collects the connections of one loop.
type statsRequest struct {
	clients []ClientStats
	done    chan struct{}
}

func (l *loop) stats(req *statsRequest) {
	defer close(req.done)
	req.clients = slices.Grow(req.clients, l.all.size)
	for c := l.all.first; c != nil; c = l.all.after(c) {
		l.culprit = c
		req.clients = append(req.clients, c.stats())
	}
}

func (c *conn) stats() ClientStats {
	st := ClientStats{
		RemoteAddress: c.remote,
		State:         c.pol.State,
		ConnectTime:   c.connectedAt.Unix(),
		PubCounts:     maps.Clone(c.published),
		Deflate:       c.compress == compressDeflate,
		Snappy:        c.compress == compressSnappy,
		TLS:           c.tls,
	}
	if id := c.id; id != nil {
		st.ClientID, st.Hostname, st.UserAgent = id.ClientID, id.Hostname, id.UserAgent
		st.TopologyRegion, st.TopologyZone = id.TopologyRegion, id.TopologyZone
		st.SampleRate = id.SampleRate
	} else {
		st.ClientID = peerHost(c.remote)
		st.Hostname = st.ClientID
	}
	if a := c.auth; a != nil && a.grants != nil {
		st.Authed = a.grants.any()
		st.AuthIdentity, st.AuthIdentityURL = a.grants.identity, a.grants.identityURL
	}
	if c.cons != nil {
		n := c.cons.Counters()
		st.ReadyCount, st.InFlightCount = n.Ready, n.InFlight
		st.MessageCount, st.FinishCount, st.RequeueCount = n.Messages, n.Finished, n.Requeued
		st.Channel = c.subs.ch
	}
	return st
}

// errorCounts counts error frames by code. Errors are rare, so a mutex serves all loops.
type errorCounts struct {
	mu     sync.Mutex
	byCode map[string]uint64
}

func (e *errorCounts) add(code string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byCode == nil {
		e.byCode = make(map[string]uint64)
	}
	e.byCode[code]++
}

// Errors returns how many error frames were sent since start, by code. Any goroutine.
func (s *Server) Errors() map[string]uint64 {
	s.errors.mu.Lock()
	defer s.errors.mu.Unlock()
	return maps.Clone(s.errors.byCode)
}
