package main

import (
	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/options"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/httpapi"
	"github.com/nsqloop/nsqloop/loop"
	"github.com/nsqloop/nsqloop/mmapq"
)

// storeOptions: whoever asks for a sync with every message gets the policy that means it.
func (d *daemon) storeOptions() mmapq.Options {
	o := d.o
	policy := mmapq.SyncInterval
	if d.syncPolicy() == options.SyncAlways {
		policy = mmapq.SyncAlways
	}
	reserve := o.DiskReserve
	if reserve == 0 {
		reserve = -1 // none; the store's 0 means its default
	}
	return mmapq.Options{
		Node:        uint16(o.ID),
		Sync:        policy,
		SyncTimeout: o.SyncTimeout,
		SyncEvery:   o.SyncEvery,
		SegmentMax:  int(o.MaxBytesPerFile),
		DiskReserve: reserve,
		Warn:        d.log.Warnf,
	}
}

func (d *daemon) syncPolicy() options.SyncPolicy {
	if d.o.SyncEvery == 1 {
		return options.SyncAlways
	}
	return d.o.SyncPolicy
}

func (d *daemon) brokerOptions() fanout.Options {
	o := d.o
	return fanout.Options{
		MsgTimeout:          o.MsgTimeout,
		MaxMsgTimeout:       o.MaxMsgTimeout,
		MemQueueSize:        o.MemQueueSize,
		MaxTopics:           o.MaxTopics,
		MaxChannelsPerTopic: o.MaxChannelsPerTopic,
		MaxChannelConsumers: o.MaxChannelConsumers,
		LatencyQuantiles:    o.E2EProcessingLatencyPercentiles,
		LatencyWindow:       o.E2EProcessingLatencyWindowTime,
		Changed:             d.keeper.Changed,
		Announce:            d.announce,
		Starting:            d.starting,
		Info:                d.log.Infof,
		Warn:                d.log.Warnf,
	}
}

func (d *daemon) loopOptions() loop.Options {
	o := d.o
	identify := codec.DefaultIdentifyLimits()
	identify.MaxHeartbeatInterval = o.MaxHeartbeatInterval
	identify.MinOutputBufferTimeout = o.MinOutputBufferTimeout
	identify.MaxOutputBufferTimeout = o.MaxOutputBufferTimeout
	identify.OutputBufferTimeout = o.OutputBufferTimeout
	identify.MaxOutputBufferSize = o.MaxOutputBufferSize
	identify.MaxMsgTimeout = o.MaxMsgTimeout
	identify.MsgTimeout = o.MsgTimeout
	return loop.Options{
		Addresses:      []string{o.TCPAddress},
		Loops:          o.Loops,
		MaxConnections: d.connections().TCP,
		MagicTimeout:   o.MagicTimeout,
		Limits: codec.Limits{
			MaxMsgSize: o.MaxMsgSize, MaxBodySize: o.MaxBodySize, MaxRdyCount: o.MaxRdyCount, MaxReqTimeout: o.MaxReqTimeout,
		},
		Identify: identify,
		Server: codec.ServerInfo{
			Version: version.Number, MaxRdyCount: o.MaxRdyCount, MaxMsgTimeout: o.MaxMsgTimeout, MaxDeflateLevel: o.MaxDeflateLevel,
			TopologyRegion: o.TopologyRegion, TopologyZone: o.TopologyZone, AuthRequired: len(o.AuthHTTPAddresses) > 0,
			Snappy: o.SnappyEnabled, Deflate: o.DeflateEnabled,
		},
		TLS: o.ServerTLS(), TLSRequired: o.TLSRequired != options.TLSNotRequired, MaxHandshakes: o.MaxTLSHandshakes,
		Auth: loop.AuthOptions{
			Addresses: o.AuthHTTPAddresses, Post: o.AuthHTTPRequestMethod == "post",
			ConnectTimeout: o.HTTPClientConnectTimeout, RequestTimeout: o.HTTPClientRequestTimeout, TLS: o.ClientTLS(),
		},
		Log: func(level loop.LogLevel, format string, args ...any) {
			d.log.Logf(logging.Level(level), format, args...)
		},
	}
}

func (d *daemon) httpOptions(tcpPort, httpPort, httpsPort int) httpapi.Options {
	o := d.o
	return httpapi.Options{
		Broker:  d.broker,
		Log:     d.log,
		Clients: d.clients,
		Config:  d.config,
		SetLogLevel: func(word string) error {
			level, err := logging.ParseLevel(word)
			if err == nil {
				d.log.SetLevel(level)
			}
			return err
		},
		SetLookupds: d.setLookupds,

		Version:   version.Number,
		Built:     version.Line(program),
		StartTime: d.startTime,
		Node: httpapi.Node{
			BroadcastAddress: o.BroadcastAddress, HTTPPort: httpPort, TCPPort: tcpPort, MaxHeartbeatInterval: o.MaxHeartbeatInterval,
			MaxOutputBufferSize: o.MaxOutputBufferSize, MaxOutputBufferTimeout: o.MaxOutputBufferTimeout,
			MaxDeflateLevel: o.MaxDeflateLevel, TopologyZone: o.TopologyZone, TopologyRegion: o.TopologyRegion,
		},
		TLSRequired:    o.TLSRequired == options.TLSRequiredEverywhere,
		HTTPSPort:      httpsPort,
		MaxMsgSize:     o.MaxMsgSize,
		MaxBodySize:    o.MaxBodySize,
		MaxReqTimeout:  o.MaxReqTimeout,
		MaxConnections: d.connections().HTTP,
		Traffic:        d.traffic,
		Access:         d.log.At(o.AccessLogLevel),
		SyncPolicy:     string(d.syncPolicy()),
		MaxSeries:      o.MetricsMaxSeries,
	}
}

// startStatsd begins to push figures, if somebody wants them. Called after Bound: the prefix contains this node's address.
func (d *daemon) startStatsd() {
	o := d.o
	if o.StatsdAddress == "" {
		return
	}
	d.statsd = httpapi.NewStatsd(httpapi.StatsdOptions{
		Broker: d.broker, Log: d.log, Address: o.StatsdAddress, Prefix: o.StatsdPrefix, Interval: o.StatsdInterval,
		PacketSize: o.StatsdUDPPacketSize, MemStats: o.StatsdMemStats, ExcludeEphemeral: o.StatsdExcludeEphemeral,
	})
	d.statsd.Start()
}

// config answers GET /config: the level and the list of nsqlookupds as they are now, the rest as it was given.
func (d *daemon) config(key string) (any, bool) {
	if list := d.lookupds.Load(); list != nil && key == "nsqlookupd_tcp_addresses" {
		return *list, true
	}
	if key == "log_level" {
		return d.log.Level(), true
	}
	return d.o.Lookup(key)
}

// traffic shows what the event loops count to /metrics.
func (d *daemon) traffic() httpapi.Traffic {
	n := d.tcp.Counters()
	return httpapi.Traffic{
		Connections: n.Open, Accepted: n.Accepted, RefusedConnections: n.Refused, Panics: n.Panics,
		Errors: d.tcp.Errors(), Answer: d.tcp.AnswerTimes(),
	}
}
