package main

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/nsqloop/nsqloop/perf/load"
)

// latencyRate is messages per second: what a busy service publishes, and far from what either daemon can do.
const latencyRate = 20_000

// latencyTime is how long one turn publishes; the first fifth is not recorded.
const latencyTime = 4 * time.Second

// Columns of the latency table.
const (
	defaultsName   = "peer, defaults"
	unbufferedName = "peer, unbuffered consumer"
)

// latencyWorkload is from when a message was due at its producer to when it is in its consumer's hands.
var latencyWorkload = workload{
	name: "latency", title: "end to end at 20,000 msg/s, 4 producers, 1 consumer",
	rows: []row{
		{name: "p50", unit: "us", floors: []floor{{ratio: 20, against: defaultsName}, {ratio: 2, against: unbufferedName}}},
		{name: "p99", unit: "us", floors: []floor{{ratio: 10, against: defaultsName}}},
		{name: "p99.9", unit: "us"},
		{name: "broker CPU", unit: "ns/msg"},
	},
	subjects: func(o options) []subject {
		unbuffered := o.peerWith(unbufferedName)
		// Without a size a timeout of -1 only means that nothing is sent before the buffer is full.
		unbuffered.consumers = map[string]any{"output_buffer_size": -1, "output_buffer_timeout": -1}
		return o.without([]subject{o.oursWith(oursName), o.peerWith(defaultsName), o.peerWith("peer, --mem-queue-size=0", peerDiskArgs...), unbuffered})
	},
	turn: latency,
}

func latency(ctx context.Context, t *turn) ([]sample, error) {
	if err := t.process.API().CreateTopic(ctx, "bench0", "c"); err != nil {
		return nil, err
	}
	messages := t.during(latencyTime, latencyRate)
	pacing, err := load.Pace{
		Addr: t.process.TCPAddr, Topic: "bench0", Conns: 4, Rate: latencyRate, Messages: messages, Size: t.size, Link: t.link, Skip: messages / 5,
	}.Prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer pacing.Close()
	late := load.NewHistogram()
	consuming, err := load.Consumer{
		Addr: t.process.TCPAddr, Topic: "bench0", Channel: "c", Conns: 1, Messages: messages, Size: t.size, RDY: rdyMax, Link: t.link, Identify: t.consumers,
		Each: func(_ int, body []byte) {
			if ns, count := pacing.Late(body); count {
				record(late, ns)
			}
		},
	}.Prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer consuming.Close()
	before, err := takeAccount(t.process.PID())
	if err != nil {
		return nil, err
	}
	if err := together(measured{run: pacing.Run}, measured{run: consuming.Run}).run(ctx); err != nil {
		return nil, err
	}
	after, err := takeAccount(t.process.PID())
	if err != nil {
		return nil, err
	}
	const us = float64(time.Microsecond)
	return plain(quantile(late, 50)/us, quantile(late, 99)/us, quantile(late, 99.9)/us, float64(after.broker-before.broker)/float64(messages)), nil
}

// during is how many events a rate of so many per second makes in d, at the scale of this run.
func (o options) during(d time.Duration, rate int) int {
	return max(rate/100, int(d.Seconds()*float64(rate)*o.scale))
}

// record keeps ns; what is beyond the histogram's minute counts as the minute.
func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(1, ns), h.HighestTrackableValue())) // in range, so it cannot fail
}

// quantile is in ns.
func quantile(h *hdrhistogram.Histogram, percent float64) float64 {
	return float64(h.ValueAtQuantile(percent))
}
