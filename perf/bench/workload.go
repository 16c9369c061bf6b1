package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

// workload is one thing to measure. Each has a file of its own and a line in workloads.
type workload struct {
	name  string // for -only
	title string // for the tables
	rows  []row  // what a turn yields
	// subjects says which daemons take turns; nil is ours and the peer in memory and on disk.
	subjects  func(o options) []subject
	runs      int // turns of ours and the peer in memory at least, however few were asked for; 0 asks for none
	otherRuns int // turns of all subjects but ours at most; 0 is as many as ours. For what takes a peer minutes
	// before, if not nil, prepares the data path before the daemon starts.
	before func(t *turn) error
	// turn measures one subject once. It returns one sample for every row.
	turn func(ctx context.Context, t *turn) ([]sample, error)
}

// row is one line of a table.
type row struct {
	name string // "cold", "p99"
	unit string
	more bool // more is better
	// throughput puts the row into the tables of CPU per message: its samples have all three figures.
	throughput bool
	floors     []floor
}

// sample is one measurement of a row.
type sample struct {
	value float64 // in the unit of the row
	busy  float64 // throughput rows: what the machine was busy beside the generator, ns per message
	rate  float64 // throughput rows: messages per second
}

// plain makes samples of rows that have a value only.
func plain(values ...float64) []sample {
	samples := make([]sample, len(values))
	for i, v := range values {
		samples[i].value = v
	}
	return samples
}

// turn is one subject being measured: a fresh process on a fresh data path.
type turn struct {
	options
	subject
	link    client.Link
	dir     string // the data path
	args    []string
	process *daemon.Process
	start   account // taken before exec
}

// count scales a number of messages, connections or topics.
func (o options) count(n int) int { return max(1, int(float64(n)*o.scale)) }

// workloads in the order of the tables.
var workloads = []workload{
	mpubWorkload,
	pubWorkload,
	syncOneWorkload,
	syncSixteenWorkload,
	syncHundredWorkload,
	syncConsumeWorkload,
	drainWorkload,
	drainMillionsWorkload,
	drainEachWorkload,
	rdyOneWorkload,
	mpubConsumeWorkload,
	bigWorkload,
	fanOutFourWorkload,
	fanOutSixteenWorkload,
	topicsWorkload,
	latencyWorkload,
	idleWorkload,
	manyTopicsWorkload,
	fairnessWorkload,
	stallWorkload,
	statsWorkload,
	metricsWorkload,
	httpPubOneWorkload,
	httpPubManyWorkload,
	httpMpubOneWorkload,
	httpMpubAllWorkload,
}
