package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/datapath"
	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/metadata"
	"github.com/nsqloop/nsqloop/cmd/internal/options"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/httpapi"
	"github.com/nsqloop/nsqloop/lookupd"
	"github.com/nsqloop/nsqloop/loop"
	"github.com/nsqloop/nsqloop/mmapq"
)

// daemon is everything that runs, in the order it is started; stop goes the other way and passes over what was not started. Owned by the
// goroutine of run.
type daemon struct {
	o   *options.Nsqd
	log *logging.Logger

	startTime time.Time
	lock      *datapath.Lock
	profile   interface{ Stop() }
	broker    *fanout.Broker
	keeper    *metadata.Keeper
	kept      bool // the keeper has been started
	tcp       *loop.Server
	http      *httpapi.Server // nil when neither HTTP nor HTTPS is on
	statsd    *httpapi.Statsd // nil without --statsd-address

	peers    atomic.Pointer[lookupd.Peers] // nil until the ports are known
	lookupds atomic.Pointer[[]string]      // the addresses of peers as GET /config shows them; nil until then
	fetching sync.WaitGroup                // goroutines that ask for the channels of a new topic, and that of warnBroadcast
	stopping context.Context               // cancelled when stop begins, for those that may wait for others
	cancel   context.CancelFunc
}

// start brings the daemon up. The error is the text of the FATAL line; what was started before it is for stop to end.
func (d *daemon) start() error {
	d.startTime = time.Now()
	d.stopping, d.cancel = context.WithCancel(context.Background())
	if err := d.prepare(); err != nil {
		return fmt.Errorf("failed to instantiate nsqd - %w", err)
	}
	d.log.Infof("%s", version.Line(program))
	d.log.Infof("ID: %d", d.o.ID)
	for _, note := range d.o.Notes() {
		d.log.Infof("%s", note)
	}
	for _, warning := range d.o.Warnings() {
		d.log.Warnf("%s", warning)
	}
	if err := d.openData(); err != nil {
		return err
	}
	if err := d.listen(); err != nil {
		return fmt.Errorf("failed to instantiate nsqd - %w", err)
	}
	if err := d.startPeers(); err != nil {
		return fmt.Errorf("failed to instantiate nsqd - %w", err)
	}
	d.warnBroadcast()
	d.startStatsd()
	return nil
}

// prepare does what can be refused before anything is logged: the lock first, so that two daemons with the same mistake in their flags do
// not tell different stories.
func (d *daemon) prepare() (err error) {
	if d.lock, err = datapath.Acquire(d.dir()); err != nil {
		return err
	}
	if err := d.o.Validate(); err != nil {
		return err
	}
	if err := d.o.ResolveBroadcast(); err != nil {
		return err
	}
	if !d.o.IgnoreStockQueues {
		if err := datapath.RefuseStockQueues(d.dir(), mmapq.ManifestName); err != nil {
			return err
		}
	}
	d.profile = startProfile(d.o.Profile, cmp.Or(d.o.ProfileDir, d.dir()))
	return nil
}

// dir is the data path as a directory that can be opened.
func (d *daemon) dir() string {
	if d.o.DataPath == "" {
		return "."
	}
	return d.o.DataPath
}

// openData brings topics and channels back, and writes the list of them that other programs know.
func (d *daemon) openData() error {
	inherited, err := d.inheritedTopics()
	if err != nil {
		return err
	}
	d.keeper = metadata.NewKeeper(d.writeMetadata, func(err error) { d.log.Errorf("%s", err) })
	d.broker, err = fanout.Open(mmapq.NewRealDisk(d.dir()), d.storeOptions(), d.brokerOptions())
	if err != nil {
		return fmt.Errorf("failed to open data-path %s - %w", d.dir(), err)
	}
	if r := d.broker.Recovered(); r.Damaged > 0 || r.TornBytes > 0 || r.LostBytes > 0 || r.Scanned > 0 {
		d.log.Warnf("NSQ: recovered after an unclean stop: %d of %d segments scanned with %d messages, %d damaged messages left out, %d bytes cut off the manifest, %d bytes of it damaged",
			r.Scanned, r.Segments, r.Messages, r.Damaged, r.TornBytes, r.LostBytes)
	}
	if err := recreate(d.broker, inherited, d.log); err != nil {
		return fmt.Errorf("failed to load metadata - %w", err)
	}
	if err := d.keeper.Start(); err != nil {
		return err
	}
	d.kept = true
	return nil
}

// inheritedTopics are those of a stock nsqd that used this data path before: none once there is a manifest, unless nsqd.dat still is the stock
// daemon's. Then a kill came before they were taken over, which can be repeated (or a stock daemon ran here since, and added some).
func (d *daemon) inheritedTopics() ([]metadata.Topic, error) {
	_, err := os.Stat(filepath.Join(d.dir(), mmapq.ManifestName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("failed to load metadata - %w", err)
	}
	topics, number, readErr := metadata.Read(d.o.DataPath)
	switch {
	case err != nil:
		return topics, readErr
	case readErr != nil:
		d.log.Warnf("%s", readErr) // it will be written anew
		return nil, nil
	case number == "" || version.Ours(number):
		return nil, nil
	}
	return topics, nil
}

// listen opens the ports, TCP first.
func (d *daemon) listen() (err error) {
	if d.tcp, err = loop.New(d.broker, d.loopOptions()); err != nil {
		return err
	}
	if err := d.tcp.Start(); err != nil {
		d.tcp = nil // Start has cleaned up
		return err
	}
	return d.listenHTTP(portOf(d.tcp.Addrs()[0]))
}

// listenHTTP opens the ports of the HTTP API: without TLS, with it, both or none.
func (d *daemon) listenHTTP(tcpPort int) (err error) {
	var plain, secure net.Listener
	if d.o.HTTPAddress != "" {
		if plain, err = httpapi.Listen(d.o.HTTPAddress); err != nil {
			return err
		}
	}
	config := d.o.ServerTLS()
	if config != nil && d.o.HTTPSAddress != "" {
		if secure, err = net.Listen("tcp", d.o.HTTPSAddress); err != nil {
			err = fmt.Errorf("listen (%s) failed - %w", d.o.HTTPSAddress, err)
			if plain != nil {
				err = errors.Join(err, plain.Close())
			}
			return err
		}
	}
	d.o.Bound(tcpPort, httpapi.Port(plain))
	if plain == nil && secure == nil {
		return nil
	}
	d.http = httpapi.New(plain, d.httpOptions(tcpPort, httpapi.Port(plain), httpapi.Port(secure)))
	if secure != nil {
		d.http.AddTLS(secure, config, d.o.MaxTLSHandshakes)
	}
	d.http.Start()
	return nil
}

// portOf is the port of a TCP address, -1 for a unix socket.
func portOf(addr net.Addr) int {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.Port
	}
	return -1
}

// ended is closed when a part ended that should not have; nil blocks for ever.
func (d *daemon) ended() <-chan struct{} {
	if d.http == nil {
		return nil
	}
	return d.http.Done()
}

// stop ends everything: clients first, then what they talked to.
func (d *daemon) stop() error {
	var errs []error
	d.cancel()
	if d.statsd != nil {
		d.statsd.Stop()
	}
	if d.tcp != nil {
		errs = append(errs, d.tcp.Stop())
	}
	if d.http != nil {
		errs = append(errs, d.http.Stop())
	}
	if p := d.peers.Load(); p != nil {
		p.StopAsking()
	}
	d.fetching.Wait()
	if d.kept {
		errs = append(errs, d.keeper.Stop())
	}
	if d.broker != nil {
		d.log.Infof("NSQ: closing topics")
		errs = append(errs, d.broker.Close())
		d.log.Infof("NSQ: stopping subsystems")
	}
	if p := d.peers.Load(); p != nil {
		p.Stop()
	}
	if d.profile != nil {
		d.profile.Stop()
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Release())
	}
	return errors.Join(errs...)
}

// errorsOf puts what went wrong while cleaning up behind what went wrong first.
func errorsOf(first, then error) error {
	if then == nil {
		return first
	}
	return fmt.Errorf("%w (then %w)", first, then)
}
