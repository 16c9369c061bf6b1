package main

import (
	"maps"
	"slices"
	"sync"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/httpapi"
	"github.com/nsqloop/nsqloop/loop"
)

// clients shows the connections of the event loops to /stats.
func (d *daemon) clients() httpapi.Connections {
	c := connectionsPool.Get().(*connections)
	c.list = d.tcp.AppendClients(c.list[:0])
	return c
}

// connections are what the loops said. The memory is used again: on a node with ten thousand clients that is polled often, making it anew costs more
// than filling it.
type connections struct{ list []loop.ClientStats }

var connectionsPool = sync.Pool{New: func() any { return new(connections) }}

func (c *connections) Len() int { return len(c.list) }

func (c *connections) Subscription(i int) *fanout.Channel { return c.list[i].Channel }

func (c *connections) Publishes(i int) bool { return len(c.list[i].PubCounts) > 0 }

func (c *connections) Release() {
	clear(c.list)
	connectionsPool.Put(c)
}

// Show fills in everything but PubCounts.
func (c *connections) Show(i int, to *httpapi.Client) {
	from := &c.list[i]
	*to = httpapi.Client{
		ID: from.ClientID, Hostname: from.Hostname, Version: "V2", RemoteAddress: from.RemoteAddress, State: int32(from.State),
		ReadyCount: from.ReadyCount, InFlightCount: from.InFlightCount, MessageCount: uint64(from.MessageCount),
		FinishCount: uint64(from.FinishCount), RequeueCount: uint64(from.RequeueCount), ConnectTime: from.ConnectTime,
		Deflate: from.Deflate, Snappy: from.Snappy,
		Authed: from.Authed, AuthIdentity: from.AuthIdentity, AuthIdentityURL: from.AuthIdentityURL,
		SampleRate: from.SampleRate, UserAgent: from.UserAgent, TopologyZone: from.TopologyZone, TopologyRegion: from.TopologyRegion,
	}
	if len(from.PubCounts) > 0 {
		for _, topic := range slices.Sorted(maps.Keys(from.PubCounts)) {
			to.Published = append(to.Published, httpapi.PubCount{Topic: topic, Count: from.PubCounts[topic]})
		}
	}
	showTLS(to, from.TLS)
}
