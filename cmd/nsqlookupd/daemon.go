package main

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/nsqloop/nsqloop/cmd/internal/descriptors"
	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/options"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/httpapi"
	"github.com/nsqloop/nsqloop/lookupd"
)

// daemon is everything that runs. Owned by the goroutine of run.
type daemon struct {
	o   *options.Nsqlookupd
	log *logging.Logger

	listeners []net.Listener // until the servers own them
	tcp       *lookupd.Server
	http      *httpapi.Server
}

// start opens both ports, TCP first, and serves them.
func (d *daemon) start() error {
	if err := d.o.Validate(); err != nil {
		return err
	}
	if err := d.o.ResolveBroadcast(); err != nil {
		return err
	}
	d.log.Infof("%s", version.Line(program))
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("unable to get hostname %w", err)
	}
	for _, address := range []string{d.o.TCPAddress, d.o.HTTPAddress} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen (%s) failed - %w", address, err)
		}
		d.listeners = append(d.listeners, listener)
	}
	tcp, http := d.listeners[0], d.listeners[1]
	connections, err := descriptors.Share(int64(d.o.MaxConnections))
	if err != nil {
		d.log.Warnf("cannot read the limit of open files - %s", err)
	}
	registry := lookupd.NewRegistry(lookupd.RegistryOptions{
		InactiveProducerTimeout: d.o.InactiveProducerTimeout, TombstoneLifetime: d.o.TombstoneLifetime,
		MaxTopics: d.o.MaxTopics, MaxChannels: d.o.MaxChannels,
	})
	d.tcp = lookupd.NewServer(tcp, lookupd.ServerOptions{
		Registry: registry, Log: d.log,
		BroadcastAddress: d.o.BroadcastAddress, Hostname: hostname, Version: version.Number,
		TCPPort: httpapi.Port(tcp), HTTPPort: httpapi.Port(http),
		MagicTimeout: d.o.MagicTimeout, MaxConnections: int(connections.TCP), MaxLineSize: d.o.MaxLineSize, MaxIdentifySize: d.o.MaxIdentifySize,
	})
	d.http = httpapi.NewLookup(http, httpapi.LookupOptions{
		Registry: registry, Log: d.log, Version: version.Number, MaxConnections: connections.HTTP,
		Access: d.log.At(d.o.AccessLogLevel), Connections: d.tcp.Connections, MaxSeries: d.o.MetricsMaxSeries,
	})
	d.tcp.Start()
	d.http.Start()
	return nil
}

// abort closes what a failed start has opened.
func (d *daemon) abort(err error) error {
	for _, l := range d.listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}

// stop ends both servers.
func (d *daemon) stop() error { return errors.Join(d.tcp.Stop(), d.http.Stop()) }
