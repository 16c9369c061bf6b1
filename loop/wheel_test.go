package loop

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The wheel against a plain list, with deadlines from milliseconds to months and a clock that jumps.
func TestWheelFiresInOrderAndNeverEarly(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now := int64(1_790_000_000_000_000_000) + rnd.Int64N(1e15)
		var w wheel
		w.start(now)
		nodes := make([]timerNode, 100)
		due := map[*timerNode]int64{}
		arm := func(n *timerNode) {
			at := now + rnd.Int64N(1<<(10+rnd.Uint64N(43))) - 2e6
			w.arm(n, at)
			due[n] = at
		}
		for i := range nodes {
			arm(&nodes[i])
		}
		for step := 0; len(due) > 0; step++ {
			earliest := slices.Min(values(due))
			next := w.next()
			require.NotZero(t, next)
			require.LessOrEqual(t, next, max(earliest, now)+2*tickNs)
			switch rnd.IntN(4) {
			case 0: // spuriously early
				now += rnd.Int64N(max(1, next-now))
			case 1: // late
				now = next + rnd.Int64N(1e12)
			default:
				now = max(now, next)
			}
			var fired []int64
			w.advance(now, func(n *timerNode) {
				require.LessOrEqual(t, due[n], now, "early")
				require.False(t, n.armed)
				fired = append(fired, n.tick)
				delete(due, n)
				if step < 200 && rnd.IntN(3) > 0 {
					arm(n)
				}
				if other := &nodes[rnd.IntN(len(nodes))]; rnd.IntN(3) == 0 && other != n {
					w.disarm(other)
					delete(due, other)
				}
			})
			require.True(t, slices.IsSorted(fired))
			for n := range due {
				require.True(t, n.armed)
				require.Greater(t, n.tick, now/tickNs, "seed %d: should have fired", seed)
			}
		}
		require.Zero(t, w.next())
	}
}

func values(m map[*timerNode]int64) (all []int64) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func TestWheelAllocatesNothing(t *testing.T) {
	var w wheel
	var n timerNode
	now := int64(1e18)
	w.start(now)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		w.arm(&n, now+3e9)
		w.arm(&n, now+5e6)
		now += 6e6
		w.advance(now, func(*timerNode) {})
	}))
}
