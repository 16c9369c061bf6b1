//go:build mutants

package fanout

import (
	"os"
	"sync/atomic"

	"github.com/nsqloop/nsqloop/mmapq"
)

var (
	mutant    = os.Getenv("NSQLOOP_MUTANT")
	published atomic.Uint64
	forgotten atomic.Bool
)

// mutantAckBeforeAppend answers every 500th publish without storing it: what a daemon that acknowledges first loses at a kill.
func mutantAckBeforeAppend(*Topic) bool {
	return mutant == "ack-before-append" && published.Add(1)%500 == 0
}

// mutantForgetInFlight marks one message finished at restart that was in flight when the process died.
func mutantForgetInFlight(ch *Channel, p mmapq.Pos) bool {
	if mutant != "forget-inflight" || !forgotten.CompareAndSwap(false, true) {
		return false
	}
	ch.states[streamMain].Ensure(p, 1)
	ch.states[streamMain].Finish(p)
	return true
}
