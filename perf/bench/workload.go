package main

import (
	"context"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

// workload is one thing to measure. Each has a file of its own and a line in workloads.
type workload struct {
	name     string // for -only
	title    string // for the tables
	messages int    // of one pass, at scale 1; the peer in memory holds a million
	channels []string
	// sinceExec counts the CPU of the cold pass from exec. For workloads whose messages are published in prepare it must be false.
	sinceExec bool
	// prepare brings the target to where the clock starts; what it returns is the measured part.
	prepare func(ctx context.Context, t *target) (measured, error)
}

// measured is the part of a workload that counts. close is called afterwards, in any case.
type measured struct {
	run   func(ctx context.Context) error
	close func()
}

// target is a daemon under load: one topic, empty but for what prepare puts into it.
type target struct {
	process  *daemon.Process
	topic    string
	channels []string
	messages int
	size     int
}

// workloads in the order of the tables.
var workloads = []workload{
	mpubWorkload,
	pubWorkload,
	drainWorkload,
	drainEachWorkload,
	mpubConsumeWorkload,
}
