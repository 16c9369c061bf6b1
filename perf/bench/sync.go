package main

import (
	"context"
	"fmt"

	"github.com/nsqloop/nsqloop/perf/load"
)

// Synchronous producers wait for the OK of each message before they send the next, as most do.
var (
	syncOneWorkload     = synchronous(1, 40_000)
	syncSixteenWorkload = synchronous(16, 80_000)
	syncHundredWorkload = synchronous(100, 100_000, floor{notWorse: true})
)

// notWorseRuns is how many turns a comparison of spreads needs.
const notWorseRuns = 5

func synchronous(conns, messages int, floors ...floor) workload {
	w := passes{
		messages: messages,
		prepare: func(ctx context.Context, t *target) (measured, error) {
			return publishing(ctx, load.Publisher{Conns: conns, Window: 1}, t)
		},
	}.workload(fmt.Sprintf("sync-%d", conns), fmt.Sprintf("PUB synchronous, %d connections", conns), floors...)
	if len(floors) > 0 {
		w.runs = notWorseRuns
	} else {
		w.subjects = inMemoryOnly
	}
	return w
}
