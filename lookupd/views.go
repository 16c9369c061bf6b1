package lookupd

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Topics lists the names of all topics, sorted. The list must not be changed. Any goroutine.
func (r *Registry) Topics() []string {
	if names := r.names.Load(); names != nil {
		return *names
	}
	r.mu.Lock() // the list and what it was made from change together
	defer r.mu.Unlock()
	names := []string{}
	for _, t := range r.all() {
		if t.now().listed {
			names = append(names, t.name)
		}
	}
	r.names.Store(&names)
	return names
}

// Channels lists the channels of a topic, sorted; "*" is every topic, one after the other. Never nil. Any goroutine.
func (r *Registry) Channels(topic string) []string {
	list := []string{}
	if topic != "*" {
		if t := r.lookup(topic); t != nil {
			list = append(list, t.now().channels...)
		}
		return list
	}
	for _, t := range r.all() {
		list = append(list, t.now().channels...)
	}
	return list
}

// Node is one entry of /nodes. Tombstones[i] belongs to Topics[i].
type Node struct {
	PeerInfo
	Tombstones []bool   `json:"tombstones"`
	Topics     []string `json:"topics"`
}

// Nodes lists every active peer with its topics, hidden by a tombstone or not. Never nil. Any goroutine.
func (r *Registry) Nodes() []Node {
	now := time.Now().UnixNano()
	nodes := []Node{}
	for _, p := range r.sortedPeers() {
		if now > p.lastUpdate.Load()+int64(r.o.InactiveProducerTimeout) {
			continue
		}
		n := Node{PeerInfo: p.info, Tombstones: []bool{}, Topics: []string{}}
		producers := r.producersOf(p)
		for _, pr := range producers {
			n.Topics = append(n.Topics, pr.topic)
			n.Tombstones = append(n.Tombstones, now < pr.hiddenUntil(r.o.TombstoneLifetime))
		}
		nodes = append(nodes, n)
	}
	return nodes
}

type topicProducer struct {
	topic string
	*producer
}

// producersOf lists what p produces by topic. The lock is held for one peer at a time, so that a node list of thousands delays nobody.
func (r *Registry) producersOf(p *Peer) []topicProducer {
	r.mu.Lock()
	list := make([]topicProducer, 0, len(p.topics))
	for t, pr := range p.topics {
		list = append(list, topicProducer{t.name, pr})
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b topicProducer) int { return strings.Compare(a.topic, b.topic) })
	return list
}

func (r *Registry) sortedPeers() []*Peer {
	r.mu.Lock()
	list := make([]*Peer, 0, len(r.peers))
	for p := range r.peers {
		list = append(list, p)
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *Peer) int { return strings.Compare(a.id, b.id) })
	return list
}

// DebugProducer is one producer of one key in /debug. The order of the fields is part of the API. Times are Unix nanoseconds.
type DebugProducer struct {
	BroadcastAddress string `json:"broadcast_address"`
	Hostname         string `json:"hostname"`
	HTTPPort         int    `json:"http_port"`
	ID               string `json:"id"`
	LastUpdate       int64  `json:"last_update"`
	TCPPort          int    `json:"tcp_port"`
	Tombstoned       bool   `json:"tombstoned"`
	TombstonedAt     int64  `json:"tombstoned_at"`
	TopologyRegion   string `json:"topology_region"`
	TopologyZone     string `json:"topology_zone"`
	Version          string `json:"version"`
}

// neverTombstoned is how the API writes a tombstone that was never set: the zero time of Go in Unix nanoseconds, which overflow.
const neverTombstoned = -6795364578871345152

func debugProducer(p *Peer, tombstonedAt int64) DebugProducer {
	i := &p.info
	d := DebugProducer{
		BroadcastAddress: i.BroadcastAddress, Hostname: i.Hostname, HTTPPort: i.HTTPPort, ID: p.id, LastUpdate: p.lastUpdate.Load(),
		TCPPort: i.TCPPort, Tombstoned: tombstonedAt != 0, TombstonedAt: tombstonedAt, TopologyRegion: i.TopologyRegion,
		TopologyZone: i.TopologyZone, Version: i.Version,
	}
	if tombstonedAt == 0 {
		d.TombstonedAt = neverTombstoned
	}
	return d
}

// Debug is everything that is registered, by "category:key:subkey". Names without a producer are absent. Any goroutine.
func (r *Registry) Debug() map[string][]DebugProducer {
	all := map[string][]DebugProducer{}
	for _, p := range r.sortedPeers() {
		all["client::"] = append(all["client::"], debugProducer(p, 0))
	}
	for _, t := range r.all() {
		for _, pr := range t.now().producers {
			key := "topic:" + t.name + ":"
			all[key] = append(all[key], debugProducer(pr.peer, pr.tombstonedAt.Load()))
		}
		r.mu.Lock()
		for _, ch := range t.channels {
			key := "channel:" + t.name + ":" + ch.name
			for _, p := range ch.peers {
				all[key] = append(all[key], debugProducer(p, 0))
			}
		}
		r.mu.Unlock()
	}
	return all
}

// isNode tells whether a peer is what an operator calls node: its announced address and HTTP port, an IPv6 address with or without brackets.
func (p *Peer) isNode(node string) bool {
	port := strconv.Itoa(p.info.HTTPPort)
	return node == p.info.BroadcastAddress+":"+port || node == net.JoinHostPort(p.info.BroadcastAddress, port)
}
