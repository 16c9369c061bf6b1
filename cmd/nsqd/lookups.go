package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/nsqloop/nsqloop/cmd/internal/options"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/lookupd"
)

// directory shows the broker's topics and channels to nsqlookupd.
type directory struct{ broker *fanout.Broker }

// Registrations lists a topic without channels as itself, of any other topic its channels.
func (d directory) Registrations() []lookupd.Registration {
	var all []lookupd.Registration
	for _, t := range d.broker.Topics() {
		if t.Deleted() {
			continue
		}
		channels := t.Channels()
		if len(channels) == 0 {
			all = append(all, lookupd.Registration{Topic: t.Name()})
		}
		for _, ch := range channels {
			all = append(all, lookupd.Registration{Topic: t.Name(), Channel: ch.Name()})
		}
	}
	return all
}

// Exists tells whether a channel, or with an empty channel a topic, is there now.
func (d directory) Exists(topic, channel string) bool {
	t := d.broker.LookupTopic(topic)
	return t != nil && !t.Deleted() && (channel == "" || t.LookupChannel(channel) != nil)
}

// startPeers begins to announce this node. Called after Bound: the ports to announce are those of the listeners.
func (d *daemon) startPeers() error {
	o := d.o
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("failed to get hostname - %w", err)
	}
	// Keys in alphabetical order.
	identity, err := json.Marshal(struct {
		BroadcastAddress string `json:"broadcast_address"`
		Hostname         string `json:"hostname"`
		HTTPPort         int    `json:"http_port"`
		TCPPort          int    `json:"tcp_port"`
		TopologyRegion   string `json:"topology_region"`
		TopologyZone     string `json:"topology_zone"`
		Version          string `json:"version"`
	}{o.BroadcastAddress, hostname, o.BroadcastHTTPPort, o.BroadcastTCPPort, o.TopologyRegion, o.TopologyZone, version.Number})
	if err != nil {
		return err
	}
	peers := lookupd.NewPeers(lookupd.PeersOptions{
		Log: d.log, Directory: directory{d.broker}, Identity: identity, MaxReplySize: o.MaxBodySize,
		HTTPConnectTimeout: o.HTTPClientConnectTimeout, HTTPRequestTimeout: o.HTTPClientRequestTimeout,
	})
	d.setLookupds(o.NSQLookupdTCPAddresses)
	d.peers.Store(peers)
	peers.Set(o.NSQLookupdTCPAddresses)
	return nil
}

// setLookupds makes list the nsqlookupds of this node; nil is an empty list that GET /config shows as null.
func (d *daemon) setLookupds(list []string) {
	d.lookupds.Store(&list)
	if p := d.peers.Load(); p != nil {
		p.Set(list)
	}
}

// announce is told about every topic and channel that comes or goes.
func (d *daemon) announce(topic, channel string) {
	if p := d.peers.Load(); p != nil {
		p.Announce(topic, channel)
	}
}

// starting has a new topic wait for the channels it has elsewhere, which are asked for in the background.
func (d *daemon) starting(t *fanout.Topic) bool {
	p := d.peers.Load()
	if p == nil || !p.Any() {
		return false
	}
	d.fetching.Go(func() {
		defer t.Start()
		names, _ := p.Channels(t.Name())
		for _, name := range names {
			if _, err := t.Channel([]byte(name)); err != nil {
				d.log.Warnf("TOPIC(%s): channel(%s) of nsqlookupd not created - %s", t.Name(), name, err)
				return
			}
		}
	})
	return true
}

// warnBroadcast says, loudly and once, if the address that is announced cannot be right.
func (d *daemon) warnBroadcast() {
	listeners := d.tcp.Addrs()
	if d.http != nil {
		listeners = append(listeners, d.http.Addr())
	}
	d.fetching.Go(func() {
		warning := options.BroadcastWarning(d.stopping, d.o.BroadcastAddress, listeners)
		if warning != "" && d.stopping.Err() == nil {
			d.log.Warnf("NSQ: %s", warning)
		}
	})
}
