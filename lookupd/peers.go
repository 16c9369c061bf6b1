package lookupd

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Directory is what an nsqd has to announce. Any goroutine; it must not block for long.
type Directory interface {
	// Registrations lists everything: a topic without channels as itself, of any other topic its channels.
	Registrations() []Registration
	// Exists tells whether a channel, or with an empty channel a topic, is there now.
	Exists(topic, channel string) bool
}

// PeersOptions are fixed while a Peers lives.
type PeersOptions struct {
	Log       Logger
	Directory Directory
	Identity  []byte // body of IDENTIFY

	MaxReplySize       int64         // bytes; a longer reply, of either protocol, is refused
	HTTPConnectTimeout time.Duration // of questions over HTTP
	HTTPRequestTimeout time.Duration // of a question as a whole, and how long a new topic waits for its channels

	timing timing // zero = the defaults; set by tests
}

// timing is how often things happen on a connection, and how long they may take.
type timing struct {
	ping     time.Duration
	answer   time.Duration // dialling, one write, one reply
	resolve  time.Duration // between looks at whether the name still means the address connected to
	retryMin time.Duration // before connecting again; doubles up to retryMax
	retryMax time.Duration
	lookup   func(ctx context.Context, host string) ([]string, error) // name to addresses
}

// Peers are an nsqd's connections to every nsqlookupd it was told of. Each has a goroutine of its own, so one that is silent, slow or wrong delays
// nobody else; announcing never blocks.
type Peers struct {
	o        PeersOptions
	channels channelQuery
	running  sync.WaitGroup

	list atomic.Pointer[[]*peer] // replaced under mu

	mu      sync.Mutex
	stopped bool
}

// NewPeers has no peers yet.
func NewPeers(o PeersOptions) *Peers {
	if o.timing.lookup == nil {
		o.timing = defaultTiming()
	}
	p := &Peers{o: o, channels: newChannelQuery(o)}
	p.list.Store(&[]*peer{})
	return p
}

// Set makes addresses the list of peers: new ones are connected to, others closed, at once. An address given twice counts once. Any goroutine.
func (p *Peers) Set(addresses []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	var next []*peer
	for _, old := range *p.list.Load() {
		if slices.Contains(addresses, old.addr) {
			next = append(next, old)
			continue
		}
		p.o.Log.Infof("LOOKUP(%s): removing peer", old.addr)
		old.cancel()
	}
	for _, addr := range addresses {
		if slices.ContainsFunc(next, func(x *peer) bool { return x.addr == addr }) {
			continue
		}
		p.o.Log.Infof("LOOKUP(%s): adding peer", addr)
		added := newPeerLink(addr, &p.o)
		next = append(next, added)
		p.running.Go(added.run)
	}
	p.list.Store(&next)
}

// StopAsking ends questions over HTTP at once; new ones get no answer.
func (p *Peers) StopAsking() { p.channels.cancel() }

// Stop closes every connection without a word, as nsqlookupd expects, and waits for the goroutines.
func (p *Peers) Stop() {
	p.mu.Lock()
	p.stopped = true
	for _, x := range *p.list.Load() {
		x.cancel()
	}
	p.mu.Unlock()
	p.running.Wait()
	p.channels.close()
	p.o.Log.Infof("LOOKUP: closing")
}

// Announce tells every peer, soon, that a topic, or a channel if one is named, was created or deleted. Which of the two it was is looked up when
// it is sent. It never blocks. Any goroutine.
func (p *Peers) Announce(topic, channel string) {
	for _, x := range *p.list.Load() {
		x.announce(Registration{topic, channel})
	}
}

// Channels asks every identified peer over HTTP which channels topic has elsewhere, and returns their union without ephemeral ones. It takes at most
// HTTPRequestTimeout; failures are logged. asked is false if there was nobody to ask.
func (p *Peers) Channels(topic string) (names []string, asked bool) {
	var addrs []string
	for _, x := range *p.list.Load() {
		if id := x.identity.Load(); id != nil && id.BroadcastAddress != "" {
			addrs = append(addrs, id.httpAddr())
		}
	}
	if len(addrs) == 0 {
		if len(*p.list.Load()) > 0 {
			p.o.Log.Errorf("no available nsqlookupd to query for channels to pre-create for topic %s", topic)
		}
		return nil, false
	}
	return p.channels.union(topic, addrs), true
}

// Any tells whether there is a peer that could be asked for channels.
func (p *Peers) Any() bool { return len(*p.list.Load()) > 0 }
