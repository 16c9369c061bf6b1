package httpapi

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/fanout"
)

// ephemeralSuffix ends the names of topics and channels that live no longer than they are used.
const ephemeralSuffix = "#ephemeral"

// StatsdOptions say where and what a Statsd pushes.
type StatsdOptions struct {
	Broker *fanout.Broker
	Log    Logger

	Address          string // UDP host:port
	Prefix           string // of every name, as it is sent
	Interval         time.Duration
	PacketSize       int // bytes of a datagram at most; a longer line goes alone
	MemStats         bool
	ExcludeEphemeral bool
}

// Statsd pushes the figures of /stats to a statsd server: gauges as they are, counters as what they grew by since the push before. The first
// push comes one interval after Start. Owned by one goroutine; Stop waits for it.
type Statsd struct {
	o        StatsdOptions
	counters map[string]uint64 // name -> value at the push before
	lines    []byte            // of the push that is being made
	ends     []int             // of each line in lines
	seen     map[string]uint64 // becomes counters: names that are gone are forgotten
	failing  bool              // the push before could not be sent whole

	stop chan struct{}
	done sync.WaitGroup
}

// NewStatsd prepares a pusher.
func NewStatsd(o StatsdOptions) *Statsd {
	return &Statsd{o: o, counters: map[string]uint64{}, stop: make(chan struct{})}
}

// Start begins to push.
func (s *Statsd) Start() { s.done.Go(s.run) }

// Stop ends it. What a push has left is sent at once.
func (s *Statsd) Stop() {
	close(s.stop)
	s.done.Wait()
}

func (s *Statsd) run() {
	tick := time.NewTicker(s.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.push()
		}
	}
}

// push sends one round of figures, spread over the interval less a second so that a receiver's buffer does not overflow.
func (s *Statsd) push() {
	conn, err := net.DialTimeout("udp", s.o.Address, time.Second)
	if err != nil {
		s.o.Log.Errorf("failed to create UDP socket to statsd(%s)", s.o.Address)
		return
	}
	defer func() {
		if err := conn.Close(); err != nil {
			s.o.Log.Warnf("STATSD: closing the socket to %s - %s", s.o.Address, err)
		}
	}()
	s.o.Log.Infof("STATSD: pushing stats to %s", s.o.Address)
	s.collect()
	packets := s.packets()
	pause := max(0, s.o.Interval-time.Second) / time.Duration(max(1, len(packets)))
	wait := time.NewTimer(pause)
	defer wait.Stop()
	var failed error
	for _, p := range packets {
		if _, err := conn.Write(p); err != nil {
			failed = err // nobody listens, or the packet is larger than the network takes; the rest may arrive
		}
		select {
		case <-wait.C:
			wait.Reset(pause)
		case <-s.stop: // the rest goes without pauses
		}
	}
	if failed != nil && !s.failing {
		s.o.Log.Warnf("STATSD: pushing to %s - %s; said once until a push succeeds", s.o.Address, failed)
	}
	s.failing = failed != nil
}

// packets cuts the lines into datagrams.
func (s *Statsd) packets() [][]byte {
	var list [][]byte
	from, last := 0, 0
	for _, end := range s.ends {
		if end-from > s.o.PacketSize && last > from {
			list = append(list, s.lines[from:last])
			from = last
		}
		last = end
	}
	if last > from {
		list = append(list, s.lines[from:last])
	}
	return list
}

// collect writes the lines of one push.
func (s *Statsd) collect() {
	s.lines, s.ends, s.seen = s.lines[:0], s.ends[:0], make(map[string]uint64, len(s.counters))
	for _, topic := range s.o.Broker.Topics() {
		if s.o.ExcludeEphemeral && strings.HasSuffix(topic.Name(), ephemeralSuffix) {
			continue
		}
		t := topic.Stats()
		s.topic(&t)
	}
	if s.o.MemStats {
		s.memory(readMemory())
	}
	s.counters = s.seen
}

func (s *Statsd) topic(t *fanout.TopicStats) {
	name := "topic." + t.Name + "."
	s.counter(name+"message_count", t.MessageCount)
	s.counter(name+"message_bytes", t.MessageBytes)
	s.gauge(name+"depth", t.Depth)
	s.gauge(name+"backend_depth", t.BackendDepth)
	s.latency(name, t.Latency)
	for i := range t.Channels {
		c := &t.Channels[i]
		if s.o.ExcludeEphemeral && strings.HasSuffix(c.Name, ephemeralSuffix) {
			continue
		}
		s.channel(name+"channel."+c.Name+".", c)
	}
}

func (s *Statsd) channel(name string, c *fanout.ChannelStats) {
	s.counter(name+"message_count", c.MessageCount)
	s.gauge(name+"depth", c.Depth)
	s.gauge(name+"backend_depth", c.BackendDepth)
	s.gauge(name+"in_flight_count", c.InFlight)
	s.gauge(name+"deferred_count", c.Deferred)
	s.counter(name+"requeue_count", c.RequeueCount)
	s.counter(name+"timeout_count", c.TimeoutCount)
	s.gauge(name+"clients", int64(c.ClientCount))
	s.latency(name, c.Latency)
}

// latency sends percentiles by their rounded number: 0.999 and 1 are both called 100.
func (s *Statsd) latency(name string, l fanout.Latency) {
	for _, p := range l.Percentiles {
		s.gauge(fmt.Sprintf("%se2e_processing_latency_%.0f", name, p.Quantile*100), int64(p.Value))
	}
}

func (s *Statsd) memory(m memory) {
	for _, g := range m.gauges() {
		s.gauge("mem."+g.name, int64(g.value))
	}
	s.counter("mem.gc_runs", m.GCTotalRuns)
}

// counter sends what name grew by. A topic or channel that was deleted and made again starts at 0: the difference is negative then, as the
// stock daemon sends it.
func (s *Statsd) counter(name string, now uint64) {
	s.seen[name] = now
	s.line(name, int64(now-s.counters[name]), 'c')
}

func (s *Statsd) gauge(name string, value int64) { s.line(name, value, 'g') }

func (s *Statsd) line(name string, value int64, kind byte) {
	s.lines = append(append(s.lines, s.o.Prefix...), name...)
	s.lines = strconv.AppendInt(append(s.lines, ':'), value, 10)
	s.lines = append(s.lines, '|', kind, '\n')
	s.ends = append(s.ends, len(s.lines))
}
