package lookupd

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

// Refusals of what would pass a limit.
var (
	ErrTooManyTopics   = errors.New("too many topics")
	ErrTooManyChannels = errors.New("too many channels")
)

// RegistryOptions are fixed while a Registry lives.
type RegistryOptions struct {
	InactiveProducerTimeout time.Duration // a peer without PING for longer is not shown
	TombstoneLifetime       time.Duration // how long a tombstone hides a producer of a topic
	MaxTopics               int           // 0 = any number
	MaxChannels             int           // of all topics together; 0 = any number
}

// Registry knows which peer has which topics and channels. Topics and channels stay when their last peer goes, until they are deleted.
//
// Ownership: mu guards everything that changes, except what a lookup reads, which is immutable and published through atomic pointers: a
// lookup never waits for a registration. mu is never held while something is logged, encoded or sent.
type Registry struct {
	o       RegistryOptions
	topics  sync.Map                 // name -> *topic; stored and deleted under mu
	names   atomic.Pointer[[]string] // of listed topics, sorted; nil = to be made again
	revived atomic.Uint64            // counts peers that came back from inactivity: answers made before are stale

	mu         sync.Mutex
	peers      map[*Peer]struct{}
	topicCount int
	channels   int
}

// NewRegistry is empty.
func NewRegistry(o RegistryOptions) *Registry {
	return &Registry{o: o, peers: map[*Peer]struct{}{}}
}

// Registration is one thing a peer announced: a channel of a topic, or with an empty Channel the topic itself.
type Registration struct{ Topic, Channel string }

// compareRegistrations orders by topic, a topic's channels before itself.
func compareRegistrations(a, b Registration) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	if (a.Channel == "") != (b.Channel == "") {
		return strings.Compare(b.Channel, a.Channel)
	}
	return strings.Compare(a.Channel, b.Channel)
}

// AddPeer makes an identified connection known. id is its remote address.
func (r *Registry) AddPeer(id string, info PeerInfo) *Peer {
	p := newPeer(id, info)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers[p] = struct{}{}
	return p
}

// RemovePeer takes back everything a peer announced, in order of names, each channel before its topic, and returns what that was. Topics and channels
// stay, ephemeral ones too.
func (r *Registry) RemovePeer(p *Peer) []Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, p)
	var gone []Registration
	for ch := range p.channels {
		ch.remove(p)
		gone = append(gone, Registration{ch.topic.name, ch.name})
	}
	for t := range p.topics {
		t.removeProducer(p)
		gone = append(gone, Registration{t.name, ""})
	}
	p.channels, p.topics = nil, nil
	slices.SortFunc(gone, compareRegistrations)
	return gone
}

// Ping keeps a peer active. It returns how long ago the last sign of life was.
func (r *Registry) Ping(p *Peer) time.Duration {
	now := time.Now().UnixNano()
	before := p.lastUpdate.Swap(now)
	since := time.Duration(now - before)
	if since > r.o.InactiveProducerTimeout {
		r.revived.Add(1) // after lastUpdate: see encode
	}
	return since
}

// Register notes that p has a topic, and the channel if one is named. It returns what was not known before, the channel first.
func (r *Registry) Register(p *Peer, topic, channel string) ([]Registration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.makeTopic(topic)
	if err != nil {
		return nil, err
	}
	var added []Registration
	if channel != "" {
		ch, err := r.makeChannel(t, channel)
		if err != nil {
			return nil, err
		}
		if _, known := p.channels[ch]; !known {
			p.channels[ch] = struct{}{}
			ch.peers = append(ch.peers, p)
			added = append(added, Registration{topic, channel})
		}
	}
	if _, known := p.topics[t]; !known {
		p.topics[t] = t.addProducer(p)
		added = append(added, Registration{topic, ""})
	}
	return added, nil
}

// Unregister takes back a channel of a topic, or with an empty channel the topic with all its channels. It returns what was known of p, channels
// first. An ephemeral name that nobody has any more is forgotten.
func (r *Registry) Unregister(p *Peer, topic, channel string) []Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.lookup(topic)
	if t == nil {
		return nil
	}
	if channel != "" {
		return r.unregisterChannel(p, t, channel)
	}
	var gone []Registration
	for _, ch := range t.channels {
		if _, known := p.channels[ch]; known {
			delete(p.channels, ch)
			ch.remove(p)
			gone = append(gone, Registration{topic, ch.name})
		}
	}
	slices.SortFunc(gone, compareRegistrations)
	if _, known := p.topics[t]; known {
		delete(p.topics, t)
		t.removeProducer(p)
		gone = append(gone, Registration{topic, ""})
	}
	if codec.IsEphemeral([]byte(topic)) && len(t.now().producers) == 0 {
		r.unlist(t)
	}
	return gone
}

func (r *Registry) unregisterChannel(p *Peer, t *topic, channel string) []Registration {
	ch := t.channels[channel]
	if ch == nil {
		return nil
	}
	var gone []Registration
	if _, known := p.channels[ch]; known {
		delete(p.channels, ch)
		ch.remove(p)
		gone = []Registration{{t.name, channel}}
	}
	if codec.IsEphemeral([]byte(channel)) && len(ch.peers) == 0 {
		r.dropChannel(ch)
	}
	return gone
}

// CreateTopic lists a topic without a producer.
func (r *Registry) CreateTopic(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.makeTopic(name)
	return err
}

// CreateChannel lists a channel without a producer, and its topic.
func (r *Registry) CreateChannel(topic, channel string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.makeTopic(topic)
	if err != nil {
		return err
	}
	_, err = r.makeChannel(t, channel)
	return err
}

// DeleteTopic forgets a topic and its channels whoever has them; "*" is every topic. It returns what was there, channels first.
func (r *Registry) DeleteTopic(name string) []Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var gone []Registration
	for _, t := range r.match(name) {
		for _, channel := range slices.Sorted(maps.Keys(t.channels)) {
			gone = append(gone, Registration{t.name, channel})
			r.dropChannel(t.channels[channel])
		}
		if t.now().listed {
			gone = append(gone, Registration{t.name, ""})
			r.unlist(t)
		}
	}
	return gone
}

// DeleteChannel forgets a channel whoever has it. false: there is none.
func (r *Registry) DeleteChannel(topic, channel string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.lookup(topic)
	if t == nil || t.channels[channel] == nil {
		return false
	}
	r.dropChannel(t.channels[channel])
	return true
}

// Tombstone hides the producers at node, "address:httpport", of a topic from lookups for a while. Of "*" it is one topic of each producer.
func (r *Registry) Tombstone(topic, node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[*Peer]bool{}
	for _, t := range r.match(topic) {
		snap := t.now()
		for _, p := range snap.producers {
			if !seen[p.peer] && p.peer.isNode(node) {
				p.tombstonedAt.Store(time.Now().UnixNano())
				t.publish(snap.view) // without the answer made before
			}
			seen[p.peer] = true
		}
	}
}

// match returns the topics that name stands for, by name. Caller holds mu.
func (r *Registry) match(name string) []*topic {
	if name != "*" {
		if t := r.lookup(name); t != nil {
			return []*topic{t}
		}
		return nil
	}
	return r.all()
}

// all returns every topic by name. Any goroutine.
func (r *Registry) all() []*topic {
	var list []*topic
	r.topics.Range(func(_, t any) bool {
		list = append(list, t.(*topic))
		return true
	})
	slices.SortFunc(list, func(a, b *topic) int { return strings.Compare(a.name, b.name) })
	return list
}

// lookup returns nil if nothing is known of the topic. Any goroutine.
func (r *Registry) lookup(name string) *topic {
	if t, ok := r.topics.Load(name); ok {
		return t.(*topic)
	}
	return nil
}

// makeTopic returns the topic, listed. Caller holds mu.
func (r *Registry) makeTopic(name string) (*topic, error) {
	t := r.lookup(name)
	if t == nil {
		if r.o.MaxTopics > 0 && r.topicCount >= r.o.MaxTopics {
			return nil, ErrTooManyTopics
		}
		t = newTopic(name)
		r.topics.Store(name, t)
		r.topicCount++
	}
	if snap := t.now(); !snap.listed {
		next := snap.view
		next.listed = true
		t.publish(next)
		r.names.Store(nil)
	}
	return t, nil
}

// makeChannel returns the channel of t. Caller holds mu.
func (r *Registry) makeChannel(t *topic, name string) (*channel, error) {
	if ch := t.channels[name]; ch != nil {
		return ch, nil
	}
	if r.o.MaxChannels > 0 && r.channels >= r.o.MaxChannels {
		return nil, ErrTooManyChannels
	}
	ch := &channel{topic: t, name: name}
	if t.channels == nil {
		t.channels = map[string]*channel{}
	}
	t.channels[name] = ch
	r.channels++
	next := t.now().view
	i, _ := slices.BinarySearch(next.channels, name)
	next.channels = slices.Insert(slices.Clone(next.channels), i, name)
	t.publish(next)
	return ch, nil
}

// dropChannel forgets a channel. Caller holds mu.
func (r *Registry) dropChannel(ch *channel) {
	for _, p := range ch.peers {
		delete(p.channels, ch)
	}
	t := ch.topic
	delete(t.channels, ch.name)
	r.channels--
	next := t.now().view
	i, _ := slices.BinarySearch(next.channels, ch.name)
	next.channels = slices.Delete(slices.Clone(next.channels), i, i+1)
	t.publish(next)
	r.forgetIfEmpty(t)
}

// unlist takes a topic off the list with its producers; channels stay. Caller holds mu.
func (r *Registry) unlist(t *topic) {
	next := t.now().view
	for _, p := range next.producers {
		delete(p.peer.topics, t)
	}
	next.producers, next.listed = nil, false
	t.publish(next)
	r.names.Store(nil)
	r.forgetIfEmpty(t)
}

func (r *Registry) forgetIfEmpty(t *topic) {
	if !t.now().listed && len(t.channels) == 0 {
		r.topics.Delete(t.name)
		r.topicCount--
	}
}
