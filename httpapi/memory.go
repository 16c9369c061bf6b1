package httpapi

import (
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/prometheus/procfs"
)

// memory is the "memory" object of /stats, in its order. Sizes are bytes, pauses microseconds.
type memory struct {
	HeapObjects       uint64 `json:"heap_objects"`
	HeapIdleBytes     uint64 `json:"heap_idle_bytes"`
	HeapInUseBytes    uint64 `json:"heap_in_use_bytes"`
	HeapReleasedBytes uint64 `json:"heap_released_bytes"`
	GCPauseUsec100    uint64 `json:"gc_pause_usec_100"`
	GCPauseUsec99     uint64 `json:"gc_pause_usec_99"`
	GCPauseUsec95     uint64 `json:"gc_pause_usec_95"`
	NextGCBytes       uint64 `json:"next_gc_bytes"`
	GCTotalRuns       uint64 `json:"gc_total_runs"`
}

// memoryGauge is one figure by the name it has everywhere.
type memoryGauge struct {
	name  string
	value uint64
}

// gauges are all figures but the count of collections, which is a counter for statsd.
func (m *memory) gauges() []memoryGauge {
	return []memoryGauge{
		{"heap_objects", m.HeapObjects},
		{"heap_idle_bytes", m.HeapIdleBytes},
		{"heap_in_use_bytes", m.HeapInUseBytes},
		{"heap_released_bytes", m.HeapReleasedBytes},
		{"gc_pause_usec_100", m.GCPauseUsec100},
		{"gc_pause_usec_99", m.GCPauseUsec99},
		{"gc_pause_usec_95", m.GCPauseUsec95},
		{"next_gc_bytes", m.NextGCBytes},
	}
}

// readMemory collects the figures without stopping the world, which runtime.ReadMemStats would do to every event loop.
func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/objects:objects"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/heap/goal:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
	}
	metrics.Read(samples)
	figure := func(i int) uint64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // a name this Go release does not know
		}
		return samples[i].Value.Uint64()
	}
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	slices.Sort(gc.Pause)
	return memory{
		HeapObjects:       figure(0),
		HeapIdleBytes:     figure(1) + figure(2),
		HeapInUseBytes:    figure(3) + figure(4),
		HeapReleasedBytes: figure(2),
		GCPauseUsec100:    percentile(gc.Pause, 100),
		GCPauseUsec99:     percentile(gc.Pause, 99),
		GCPauseUsec95:     percentile(gc.Pause, 95),
		NextGCBytes:       figure(5),
		GCTotalRuns:       figure(6),
	}
}

// percentile of sorted durations in microseconds, 0 without any.
func percentile(sorted []time.Duration, percent int) uint64 {
	if len(sorted) == 0 {
		return 0
	}
	i := (len(sorted)*percent+99)/100 - 1
	return uint64(sorted[max(i, 0)] / time.Microsecond)
}

// residentMemory returns the bytes of resident memory that are the process's own, and those of mapped files (ephemeral topics and shared
// memory included).
func residentMemory() (anonymous, file float64, err error) {
	self, err := procfs.Self()
	if err != nil {
		return 0, 0, err
	}
	status, err := self.NewStatus()
	if err != nil {
		return 0, 0, err
	}
	return float64(status.RssAnon), float64(status.RssFile + status.RssShmem), nil
}
