package httpapi

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
	"github.com/stretchr/testify/require"
)

func statsdBroker(t *testing.T) *fanout.Broker {
	t.Helper()
	b, err := fanout.Open(mmapq.NewHeapDisk(), mmapq.Options{Node: 7}, fanout.Options{MemQueueSize: 2, MaxTopics: 100, MaxChannelsPerTopic: 100})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func mustTopic(t *testing.T, b *fanout.Broker, name string, channels ...string) *fanout.Topic {
	t.Helper()
	topic, err := b.Topic([]byte(name))
	require.NoError(t, err)
	for _, c := range channels {
		_, err := topic.Channel([]byte(c))
		require.NoError(t, err)
	}
	return topic
}

func publishTo(t *testing.T, topic *fanout.Topic, bodies ...string) {
	t.Helper()
	var list [][]byte
	for _, b := range bodies {
		list = append(list, []byte(b))
	}
	_, err := topic.PublishWait(list)
	require.NoError(t, err)
}

func dropTopic(t *testing.T, b *fanout.Broker, name string) {
	t.Helper()
	found, err := b.DeleteTopic(name)
	require.NoError(t, err)
	require.True(t, found)
}

// linesOf are the lines of one push without those of mem.
func linesOf(s *Statsd) []string {
	s.collect()
	var list []string
	for line := range strings.Lines(string(s.lines)) {
		if !strings.HasPrefix(line, s.o.Prefix+"mem.") {
			list = append(list, strings.TrimSuffix(line, "\n"))
		}
	}
	return list
}

func TestStatsdLines(t *testing.T) {
	b := statsdBroker(t)
	events := mustTopic(t, b, "events", "work", "audit#ephemeral")
	mustTopic(t, b, "brief#ephemeral", "c")
	publishTo(t, events, "one", "two", "three")

	s := NewStatsd(StatsdOptions{Broker: b, Prefix: "nsq.x."})
	require.Equal(t, []string{
		"nsq.x.topic.brief#ephemeral.message_count:0|c",
		"nsq.x.topic.brief#ephemeral.message_bytes:0|c",
		"nsq.x.topic.brief#ephemeral.depth:0|g",
		"nsq.x.topic.brief#ephemeral.backend_depth:0|g",
		"nsq.x.topic.brief#ephemeral.channel.c.message_count:0|c",
		"nsq.x.topic.brief#ephemeral.channel.c.depth:0|g",
		"nsq.x.topic.brief#ephemeral.channel.c.backend_depth:0|g",
		"nsq.x.topic.brief#ephemeral.channel.c.in_flight_count:0|g",
		"nsq.x.topic.brief#ephemeral.channel.c.deferred_count:0|g",
		"nsq.x.topic.brief#ephemeral.channel.c.requeue_count:0|c",
		"nsq.x.topic.brief#ephemeral.channel.c.timeout_count:0|c",
		"nsq.x.topic.brief#ephemeral.channel.c.clients:0|g",
		"nsq.x.topic.events.message_count:3|c",
		"nsq.x.topic.events.message_bytes:11|c",
		"nsq.x.topic.events.depth:0|g",
		"nsq.x.topic.events.backend_depth:0|g",
		"nsq.x.topic.events.channel.audit#ephemeral.message_count:3|c",
		"nsq.x.topic.events.channel.audit#ephemeral.depth:2|g",
		"nsq.x.topic.events.channel.audit#ephemeral.backend_depth:0|g",
		"nsq.x.topic.events.channel.audit#ephemeral.in_flight_count:0|g",
		"nsq.x.topic.events.channel.audit#ephemeral.deferred_count:0|g",
		"nsq.x.topic.events.channel.audit#ephemeral.requeue_count:0|c",
		"nsq.x.topic.events.channel.audit#ephemeral.timeout_count:0|c",
		"nsq.x.topic.events.channel.audit#ephemeral.clients:0|g",
		"nsq.x.topic.events.channel.work.message_count:3|c",
		"nsq.x.topic.events.channel.work.depth:3|g",
		"nsq.x.topic.events.channel.work.backend_depth:1|g",
		"nsq.x.topic.events.channel.work.in_flight_count:0|g",
		"nsq.x.topic.events.channel.work.deferred_count:0|g",
		"nsq.x.topic.events.channel.work.requeue_count:0|c",
		"nsq.x.topic.events.channel.work.timeout_count:0|c",
		"nsq.x.topic.events.channel.work.clients:0|g",
	}, linesOf(s))
}

// A counter is what it grew by, 0 included, and negative for a topic that was deleted and made again.
func TestStatsdCounters(t *testing.T) {
	b := statsdBroker(t)
	s := NewStatsd(StatsdOptions{Broker: b})
	count := func() string { return linesOf(s)[0] }
	topic := mustTopic(t, b, "t")
	publishTo(t, topic, "a", "b", "c")
	require.Equal(t, "topic.t.message_count:3|c", count())
	require.Equal(t, "topic.t.message_count:0|c", count())
	publishTo(t, topic, "d")
	require.Equal(t, "topic.t.message_count:1|c", count())
	dropTopic(t, b, "t")
	publishTo(t, mustTopic(t, b, "t"), "e")
	require.Equal(t, "topic.t.message_count:-3|c", count())
	dropTopic(t, b, "t")
	require.Empty(t, linesOf(s))
	publishTo(t, mustTopic(t, b, "t"), "f")
	require.Equal(t, "topic.t.message_count:1|c", count(), "a name that was gone at the last push starts anew")
}

func TestStatsdWithoutEphemerals(t *testing.T) {
	b := statsdBroker(t)
	mustTopic(t, b, "events", "work", "audit#ephemeral")
	mustTopic(t, b, "brief#ephemeral", "c")
	lines := linesOf(NewStatsd(StatsdOptions{Broker: b, ExcludeEphemeral: true}))
	require.Len(t, lines, 4+8)
	require.NotContains(t, strings.Join(lines, "\n"), "#ephemeral")
}

func TestStatsdPackets(t *testing.T) {
	tests := []struct {
		name  string
		size  int
		lines []string
		want  []string
	}{
		{"nothing", 10, nil, nil},
		{"all fit exactly", 10, []string{"12345", "67890"}, []string{"1234567890"}},
		{"one byte short", 9, []string{"12345", "67890"}, []string{"12345", "67890"}},
		{"a long line goes alone", 4, []string{"1", "2", "long line", "3"}, []string{"12", "long line", "3"}},
		{"a long first line", 4, []string{"long line", "3"}, []string{"long line", "3"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := NewStatsd(StatsdOptions{PacketSize: test.size})
			for _, line := range test.lines {
				s.lines = append(s.lines, line...)
				s.ends = append(s.ends, len(s.lines))
			}
			var got []string
			for _, p := range s.packets() {
				got = append(got, string(p))
			}
			require.Equal(t, test.want, got)
		})
	}
}

// A push in progress when the daemon stops is sent to its end, without pauses.
func TestStatsdPushes(t *testing.T) {
	receiver, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer receiver.Close()
	b := statsdBroker(t)
	mustTopic(t, b, "events", "work")
	log := &memoryLog{}
	s := NewStatsd(StatsdOptions{
		Broker: b, Log: log, Address: receiver.LocalAddr().String(), Interval: 1500 * time.Millisecond, PacketSize: 1, MemStats: true,
	})
	s.Start()
	require.NoError(t, receiver.SetReadDeadline(time.Now().Add(30*time.Second)))
	buf := make([]byte, 1<<16)
	next := func() string {
		n, err := receiver.Read(buf)
		require.NoError(t, err)
		return string(buf[:n])
	}
	require.Equal(t, "topic.events.message_count:0|c\n", next())
	require.Len(t, log.with("INFO STATSD: pushing stats to "+receiver.LocalAddr().String()), 1)
	s.Stop()
	var last string
	for range 4 + 8 + 9 - 1 {
		last = next()
	}
	require.Contains(t, last, "mem.gc_runs:")
}

func TestStatsdSaysOnceThatNobodyListens(t *testing.T) {
	nobody, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	log := &memoryLog{}
	s := NewStatsd(StatsdOptions{
		Broker: statsdBroker(t), Log: log, Address: nobody.LocalAddr().String(), Interval: time.Second, PacketSize: 1, MemStats: true,
	})
	s.push()
	s.push()
	require.Len(t, log.with("STATSD: pushing to"), 1)
	s.o.Address = "127.0.0.1:notaport"
	s.push()
	require.Len(t, log.with("ERROR failed to create UDP socket to statsd(127.0.0.1:notaport)"), 1)
}
