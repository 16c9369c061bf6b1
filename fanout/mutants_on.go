//go:build mutants

package fanout

import (
	"sync/atomic"

	"github.com/nsqloop/nsqloop/mmapq"
)

var mutantCalls atomic.Uint64

// mutantEvery is true for every nth call of the mutant that was chosen.
func mutantEvery(name string, n uint64) bool {
	return mmapq.Mutant(name) && mutantCalls.Add(1)%n == 0
}
