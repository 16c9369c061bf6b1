package lookupd

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestRegistry() *Registry {
	return NewRegistry(RegistryOptions{InactiveProducerTimeout: 5 * time.Minute, TombstoneLifetime: 45 * time.Second})
}

func addPeer(r *Registry, n int) *Peer {
	return r.AddPeer(fmt.Sprintf("127.0.0.1:%d", 50000+n), PeerInfo{
		BroadcastAddress: fmt.Sprintf("host%d", n), Hostname: "<h>", TCPPort: 4150, HTTPPort: 4151, Version: "1.3.0", TopologyZone: "z", TopologyRegion: "r",
	})
}

func register(t *testing.T, r *Registry, p *Peer, topic, channel string) []Registration {
	t.Helper()
	added, err := r.Register(p, topic, channel)
	require.NoError(t, err)
	return added
}

// found is who a lookup shows; nil: the topic is not listed.
func found(t *testing.T, r *Registry, topic string) []string {
	t.Helper()
	body, ok := r.Lookup(topic)
	if !ok {
		return nil
	}
	var answer struct {
		Channels  []string
		Producers []PeerInfo
	}
	require.NoError(t, json.Unmarshal(body, &answer))
	names := []string{}
	for _, p := range answer.Producers {
		names = append(names, p.BroadcastAddress)
	}
	slices.Sort(names)
	return names
}

func TestLookupToTheByte(t *testing.T) {
	r := newTestRegistry()
	register(t, r, addPeer(r, 1), "t", "b")
	register(t, r, addPeer(r, 2), "t", "a")
	body, ok := r.Lookup("t")
	require.True(t, ok)
	const peer = `{"remote_address":"127.0.0.1:5000%d","hostname":"\u003ch\u003e","broadcast_address":"host%d","tcp_port":4150,"http_port":4151,"version":"1.3.0","topology_zone":"z","topology_region":"r"}`
	require.Equal(t, `{"channels":["a","b"],"producers":[`+fmt.Sprintf(peer, 1, 1)+","+fmt.Sprintf(peer, 2, 2)+`]}`, string(body))
	again, _ := r.Lookup("t")
	require.Same(t, &body[0], &again[0], "nothing changed, so the answer is the same one")
}

func TestRegisterAndUnregister(t *testing.T) {
	r := newTestRegistry()
	a, b := addPeer(r, 1), addPeer(r, 2)
	require.Equal(t, []Registration{{"t", "c"}, {"t", ""}}, register(t, r, a, "t", "c"))
	require.Equal(t, []Registration{{"t", "d"}}, register(t, r, a, "t", "d"))
	require.Empty(t, register(t, r, a, "t", "d"))
	register(t, r, b, "t", "c")
	require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"))

	require.Equal(t, []Registration{{"t", "c"}}, r.Unregister(a, "t", "c"))
	require.Empty(t, r.Unregister(a, "t", "c"))
	require.Empty(t, r.Unregister(a, "other", ""))
	require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"), "the topic stays")
	require.Equal(t, []Registration{{"t", "d"}, {"t", ""}}, r.Unregister(a, "t", ""))
	require.Equal(t, []string{"host2"}, found(t, r, "t"))
	require.Equal(t, []Registration{{"t", "c"}, {"t", ""}}, r.RemovePeer(b))
	require.Equal(t, []string{}, found(t, r, "t"), "names outlive producers")
	require.Equal(t, []string{"c", "d"}, r.Channels("t"))
	require.Equal(t, []string{"t"}, r.Topics())
}

func TestEphemeralNames(t *testing.T) {
	r := newTestRegistry()
	a := addPeer(r, 1)
	register(t, r, a, "t#ephemeral", "c#ephemeral")
	r.RemovePeer(a)
	require.Equal(t, []string{"t#ephemeral"}, r.Topics(), "a lost connection leaves them")
	require.Equal(t, []string{"c#ephemeral"}, r.Channels("t#ephemeral"))

	b := addPeer(r, 2)
	register(t, r, b, "t#ephemeral", "c#ephemeral")
	r.Unregister(b, "t#ephemeral", "")
	require.Empty(t, r.Topics())
	require.Nil(t, found(t, r, "t#ephemeral"))
	require.Equal(t, []string{"c#ephemeral"}, r.Channels("t#ephemeral"), "taking back the topic does not forget its channels")
	r.Unregister(b, "t#ephemeral", "c#ephemeral")
	require.Empty(t, r.Channels("t#ephemeral"))
	require.Nil(t, r.lookup("t#ephemeral"), "nothing is left of it")
}

func TestInactiveAndTombstoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestRegistry()
		a, b := addPeer(r, 1), addPeer(r, 2)
		for _, p := range []*Peer{a, b} {
			register(t, r, p, "t", "")
			register(t, r, p, "u", "")
		}
		require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"))
		r.Tombstone("t", "host1:4151")
		require.Equal(t, []string{"host2"}, found(t, r, "t"), "the answer made before does not count any more")
		require.Equal(t, []string{"host1", "host2"}, found(t, r, "u"))
		register(t, r, a, "t", "")
		require.Equal(t, []string{"host2"}, found(t, r, "t"), "registering again does not clear it")
		require.Equal(t, []bool{true, false}, r.Nodes()[0].Tombstones)
		require.Equal(t, []string{"t", "u"}, r.Nodes()[0].Topics)
		time.Sleep(45 * time.Second)
		require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"), "its time is over")
		require.Equal(t, []bool{false, false}, r.Nodes()[0].Tombstones)
		require.True(t, r.Debug()["topic:t:"][0].Tombstoned, "the mark stays")
		r.Tombstone("t", "host1:4151")
		r.Unregister(a, "t", "")
		register(t, r, a, "t", "")
		require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"), "a new registration is not marked")

		time.Sleep(4 * time.Minute)
		require.Equal(t, 4*time.Minute+45*time.Second, r.Ping(b))
		time.Sleep(15 * time.Second)
		require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"), "five minutes are not too long")
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"host2"}, found(t, r, "t"))
		register(t, r, a, "t", "")
		require.Equal(t, []string{"host2"}, found(t, r, "t"), "REGISTER is no sign of life")
		require.Len(t, r.Nodes(), 1)
		r.Ping(a)
		require.Equal(t, []string{"host1", "host2"}, found(t, r, "t"))
		require.Len(t, r.Nodes(), 2)
	})
}

func TestTombstoneAcceptsBothFormsOfAnIPv6Node(t *testing.T) {
	for _, node := range []string{"::1:4151", "[::1]:4151"} {
		r := newTestRegistry()
		p := r.AddPeer("x", PeerInfo{BroadcastAddress: "::1", HTTPPort: 4151})
		register(t, r, p, "t", "")
		r.Tombstone("t", node)
		require.Empty(t, found(t, r, "t"), node)
	}
}

func TestWildcards(t *testing.T) {
	r := newTestRegistry()
	require.Nil(t, found(t, r, "*"))
	a, b := addPeer(r, 1), addPeer(r, 2)
	register(t, r, a, "t", "c")
	register(t, r, a, "u", "c")
	register(t, r, b, "u", "d")
	require.Equal(t, []string{"host1", "host2"}, found(t, r, "*"))
	require.Equal(t, []string{"c", "c", "d"}, r.Channels("*"))
	require.Equal(t, []Registration{{"t", "c"}, {"t", ""}, {"u", "c"}, {"u", "d"}, {"u", ""}}, r.DeleteTopic("*"))
	require.Empty(t, r.Topics())
	require.Empty(t, r.RemovePeer(a), "nothing is registered any more")
	require.Empty(t, a.topics)
}

func TestDeletingForgetsWhoHasIt(t *testing.T) {
	r := newTestRegistry()
	a := addPeer(r, 1)
	register(t, r, a, "t", "c")
	require.False(t, r.DeleteChannel("t", "x"))
	require.False(t, r.DeleteChannel("x", "c"))
	require.True(t, r.DeleteChannel("t", "c"))
	require.Empty(t, r.Channels("t"))
	require.Equal(t, []Registration{{"t", "c"}}, register(t, r, a, "t", "c"))
	require.Len(t, r.DeleteTopic("t"), 2)
	require.Nil(t, found(t, r, "t"))
	require.Len(t, register(t, r, a, "t", "c"), 2, "it comes back with the next REGISTER")
	require.Equal(t, []string{"host1"}, found(t, r, "t"))
}

func TestLimits(t *testing.T) {
	r := NewRegistry(RegistryOptions{InactiveProducerTimeout: time.Minute, MaxTopics: 2, MaxChannels: 2})
	a := addPeer(r, 1)
	register(t, r, a, "t", "c")
	register(t, r, a, "u", "c")
	_, err := r.Register(a, "v", "")
	require.ErrorIs(t, err, ErrTooManyTopics)
	require.ErrorIs(t, r.CreateTopic("v"), ErrTooManyTopics)
	_, err = r.Register(a, "t", "d")
	require.ErrorIs(t, err, ErrTooManyChannels)
	require.ErrorIs(t, r.CreateChannel("t", "d"), ErrTooManyChannels)
	r.DeleteTopic("u")
	require.NoError(t, r.CreateChannel("v", "d"))
}

func TestDebug(t *testing.T) {
	r := newTestRegistry()
	require.NoError(t, r.CreateChannel("empty", "c"))
	require.Empty(t, r.Debug())
	a := addPeer(r, 1)
	register(t, r, a, "t", "c")
	all := r.Debug()
	require.Len(t, all, 3)
	for _, key := range []string{"client::", "topic:t:", "channel:t:c"} {
		require.Equal(t, "127.0.0.1:50001", all[key][0].ID)
		require.EqualValues(t, neverTombstoned, all[key][0].TombstonedAt)
	}
}

// Old snapshots share their array with newer ones; readers must never see a change in what they hold.
func TestSnapshotsDoNotChangeUnderReaders(t *testing.T) {
	r := newTestRegistry()
	peers := make([]*Peer, 20)
	for i := range peers {
		peers[i] = addPeer(r, i)
	}
	require.NoError(t, r.CreateTopic("t"))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap := r.lookup("t").now()
				before := slices.Clone(snap.producers)
				body, ok := r.Lookup("t")
				if !ok || !json.Valid(body) || !slices.Equal(before, snap.producers) {
					panic("a snapshot changed")
				}
			}
		})
	}
	for range 5000 {
		p := peers[rand.IntN(len(peers))]
		if rand.IntN(2) == 0 {
			register(t, r, p, "t", "c")
		} else {
			r.Unregister(p, "t", "")
		}
	}
	close(stop)
	readers.Wait()
	for _, p := range peers {
		r.RemovePeer(p)
	}
	require.Equal(t, []string{}, found(t, r, "t"))
}
