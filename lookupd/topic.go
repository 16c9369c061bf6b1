package lookupd

import (
	"encoding/json"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// PeerInfo is what a peer says of itself in IDENTIFY, and how lookups show it. The order of the fields is part of the API.
type PeerInfo struct {
	RemoteAddress    string `json:"remote_address"`
	Hostname         string `json:"hostname"`
	BroadcastAddress string `json:"broadcast_address"`
	TCPPort          int    `json:"tcp_port"`
	HTTPPort         int    `json:"http_port"`
	Version          string `json:"version"`
	TopologyZone     string `json:"topology_zone"`
	TopologyRegion   string `json:"topology_region"`
}

// Peer is an identified connection. Two connections of one nsqd are two peers.
type Peer struct {
	id         string
	info       PeerInfo
	json       []byte       // info, as lookups show it
	lastUpdate atomic.Int64 // Unix nanoseconds of IDENTIFY or the last PING

	// What it registered; guarded by Registry.mu, nil once the connection is gone.
	topics   map[*topic]*producer
	channels map[*channel]struct{}
}

func newPeer(id string, info PeerInfo) *Peer {
	info.RemoteAddress = id
	text, err := json.Marshal(info)
	if err != nil {
		panic("BUG: a peer's description does not encode: " + err.Error())
	}
	p := &Peer{id: id, info: info, json: text, topics: map[*topic]*producer{}, channels: map[*channel]struct{}{}}
	p.lastUpdate.Store(time.Now().UnixNano())
	return p
}

// producer is a peer that has a topic. Immutable but for the tombstone.
type producer struct {
	peer         *Peer
	tombstonedAt atomic.Int64 // Unix nanoseconds; 0 = never
}

// hiddenUntil is when the tombstone ends, 0 without one.
func (p *producer) hiddenUntil(lifetime time.Duration) int64 {
	at := p.tombstonedAt.Load()
	if at == 0 {
		return 0
	}
	return at + int64(lifetime)
}

// channel is a channel of a topic. Guarded by Registry.mu.
type channel struct {
	topic *topic
	name  string
	peers []*Peer
}

func (ch *channel) remove(p *Peer) {
	if i := slices.Index(ch.peers, p); i >= 0 {
		last := len(ch.peers) - 1
		ch.peers[i] = ch.peers[last]
		ch.peers[last] = nil
		ch.peers = ch.peers[:last]
	}
}

// topic is a name with its producers and channels. channels is guarded by Registry.mu; snap is replaced under it and read by anybody.
type topic struct {
	name     string
	channels map[string]*channel
	snap     atomic.Pointer[snapshot]
}

// snapshot is a topic at one moment: immutable, but for the answer that is kept with it. Snapshots of a topic follow each other in one line,
// so the newest one alone may append to the array behind producers: the older ones do not see beyond their own length.
type snapshot struct {
	view
	answer atomic.Pointer[answer]
}

type view struct {
	listed    bool        // the topic is registered, not only channels of it
	channels  []string    // sorted
	producers []*producer // in the order they came
}

// answer is an encoded lookup.
type answer struct {
	body       []byte
	validUntil int64  // Unix nanoseconds: until then nobody falls inactive and no tombstone ends
	revived    uint64 // as long as the registry's count is this, nobody came back either
}

// now is the newest snapshot.
func (t *topic) now() *snapshot { return t.snap.Load() }

func newTopic(name string) *topic {
	t := &topic{name: name}
	t.snap.Store(&snapshot{})
	return t
}

// publish makes next the newest snapshot. Caller holds Registry.mu.
func (t *topic) publish(next view) { t.snap.Store(&snapshot{view: next}) }

func (t *topic) addProducer(p *Peer) *producer {
	pr := &producer{peer: p}
	next := t.now().view
	next.producers = append(next.producers, pr)
	t.publish(next)
	return pr
}

func (t *topic) removeProducer(p *Peer) {
	next := t.now().view
	i := slices.IndexFunc(next.producers, func(pr *producer) bool { return pr.peer == p })
	if i >= 0 {
		next.producers = slices.Concat(next.producers[:i:i], next.producers[i+1:])
		t.publish(next)
	}
}

// Lookup returns the JSON of /lookup, which must not be changed; false: the topic is not listed. "*" is all topics in one. Any goroutine; it
// waits for nobody.
func (r *Registry) Lookup(name string) ([]byte, bool) {
	if name == "*" {
		return r.lookupAll()
	}
	t := r.lookup(name)
	if t == nil {
		return nil, false
	}
	snap := t.now()
	if !snap.listed {
		return nil, false
	}
	now := time.Now().UnixNano()
	revived := r.revived.Load() // before the peers' times are read: whoever comes back after that makes the answer stale
	if a := snap.answer.Load(); a != nil && now < a.validUntil && a.revived == revived {
		return a.body, true
	}
	body, validUntil := r.encode(snap.view, now)
	snap.answer.Store(&answer{body: body, validUntil: validUntil, revived: revived})
	return body, true
}

// lookupAll lists the channels of every topic one after the other, and each producer once.
func (r *Registry) lookupAll() ([]byte, bool) {
	var all view
	seen := map[*Peer]bool{}
	for _, t := range r.all() {
		snap := t.now()
		all.listed = all.listed || snap.listed
		all.channels = append(all.channels, snap.channels...)
		for _, p := range snap.producers {
			if !seen[p.peer] {
				seen[p.peer] = true
				all.producers = append(all.producers, p)
			}
		}
	}
	if !all.listed {
		return nil, false
	}
	body, _ := r.encode(all, time.Now().UnixNano())
	return body, true
}

// encode writes the answer for a moment, and tells until when it stays true if nobody comes back to life.
func (r *Registry) encode(v view, now int64) (body []byte, validUntil int64) {
	validUntil = math.MaxInt64
	size := 32
	for _, c := range v.channels {
		size += len(c) + 3
	}
	for _, p := range v.producers {
		size += len(p.peer.json) + 1
	}
	body = append(make([]byte, 0, size), `{"channels":[`...)
	for i, c := range v.channels {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(append(body, '"'), c...), '"') // valid names need no escapes
	}
	body = append(body, `],"producers":[`...)
	first := true
	for _, p := range v.producers {
		if hidden := p.hiddenUntil(r.o.TombstoneLifetime); now < hidden {
			validUntil = min(validUntil, hidden)
			continue
		}
		active := p.peer.lastUpdate.Load() + int64(r.o.InactiveProducerTimeout)
		if now > active {
			continue
		}
		validUntil = min(validUntil, active+1)
		if !first {
			body = append(body, ',')
		}
		first = false
		body = append(body, p.peer.json...)
	}
	return append(body, `]}`...), validUntil
}
