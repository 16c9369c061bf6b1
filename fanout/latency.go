package fanout

import (
	"sync"

	"github.com/beorn7/perks/quantile"

	"github.com/nsqloop/nsqloop/mmapq"
)

// latencyError is the error that the estimate of a quantile may have, as a part of all samples.
const latencyError = 0.01

// Latency is the time from publish to FIN, requeues and deferrals included, over the last window. Percentiles is nil when none are configured.
type Latency struct {
	Count       int
	Percentiles []Percentile // in the order they are configured in
}

// Percentile is one quantile and its value in ns.
type Percentile struct {
	Quantile float64
	Value    float64
}

// latencyMeter estimates the percentiles of one channel over two half windows, of which the older is dropped when the newer is full. It exists
// only where percentiles are configured; then every FIN takes its mutex.
type latencyMeter struct {
	quantiles []float64
	half      int64 // ns

	mu     sync.Mutex
	recent *quantile.Stream // since began
	older  *quantile.Stream // of the half window before
	began  int64
}

func newLatencyMeter(quantiles []float64, window, now int64) *latencyMeter {
	if len(quantiles) == 0 {
		return nil
	}
	return &latencyMeter{
		quantiles: quantiles, half: max(1, window/2), began: now,
		recent: newStream(quantiles), older: newStream(quantiles),
	}
}

func newStream(quantiles []float64) *quantile.Stream {
	targets := make(map[float64]float64, len(quantiles))
	for _, q := range quantiles {
		targets[q] = latencyError
	}
	return quantile.NewTargeted(targets)
}

// turn drops what is too old. Caller holds mu.
func (m *latencyMeter) turn(now int64) {
	behind := (now - m.began - 1) / m.half
	if behind <= 0 {
		return
	}
	m.began += behind * m.half
	m.recent, m.older = m.older, m.recent
	m.recent.Reset()
	if behind > 1 {
		m.older.Reset()
	}
}

func (m *latencyMeter) add(now, ns int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	m.recent.Insert(float64(ns))
}

// mergeInto adds the samples of the window to s.
func (m *latencyMeter) mergeInto(s *quantile.Stream, now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	for _, half := range []*quantile.Stream{m.older, m.recent} {
		s.Merge(half.Samples())
	}
}

// latencyOf merges what meters measured; none of them nil.
func latencyOf(quantiles []float64, meters []*latencyMeter, now int64) Latency {
	if len(meters) == 0 || len(quantiles) == 0 {
		return Latency{}
	}
	all := newStream(quantiles)
	for _, m := range meters {
		m.mergeInto(all, now)
	}
	l := Latency{Count: all.Count()}
	for _, q := range quantiles {
		l.Percentiles = append(l.Percentiles, Percentile{Quantile: q, Value: all.Query(q)})
	}
	return l
}

// stamp notes when the messages of run were published: a FIN comes when their frames may have left memory.
func (c *Consumer) stamp(run *Run) {
	if c.stamps == nil {
		c.stamps = make(map[uint64]int64)
	}
	at := 0
	for i := range run.N {
		frame := run.Head
		if len(frame) == 0 {
			frame = run.Bytes[at:]
			at += run.frameLen(i)
		}
		c.stamps[run.id(i)] = mmapq.FrameTimestamp(frame)
	}
}

// measured adds the time that the message with id took, which has just been finished.
func (c *Consumer) measured(id uint64, now int64) {
	if at, ok := c.stamps[id]; ok {
		delete(c.stamps, id)
		c.ch.latency.add(now, now-at)
	}
}
