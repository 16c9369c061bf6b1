package fanout

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// TestFinishInAnyOrder: whatever the order of the FINs, and whatever comes between them, after StoreFins exactly those messages are finished in
// the state, and a second FIN of one is refused before as after.
func TestFinishInAnyOrder(t *testing.T) {
	orders := map[string]func([]int){
		"in order": func([]int) {},
		"backward": slices.Reverse[[]int],
		"random":   func(o []int) { rand.New(rand.NewPCG(1, 2)).Shuffle(len(o), func(i, k int) { o[i], o[k] = o[k], o[i] }) },
		"pairs": func(o []int) {
			for i := 0; i+1 < len(o); i += 2 {
				o[i], o[i+1] = o[i+1], o[i]
			}
		},
	}
	for name, arrange := range orders {
		t.Run(name, func(t *testing.T) {
			r := openRig(t, mmapq.NewHeapDisk(), smallSegments, Options{})
			defer r.Close()
			c := r.sub(t, "t", "c", 5000, ConsumerOptions{})
			r.pub(t, "t", big(700)...)
			ds := c.takeAll(t)
			order := make([]int, 0, len(ds))
			for i := range ds {
				if i%97 != 0 {
					order = append(order, i)
				}
			}
			arrange(order)
			for n, i := range order {
				require.NoError(t, c.Fin([]byte(ds[i].id), Now()))
				if n%131 == 0 {
					require.ErrorIs(t, c.Fin([]byte(ds[i].id), Now()), ErrNotInFlight)
				}
			}
			c.StoreFins()
			base := c.ch.floor[streamMain]
			for i := range ds {
				was := c.ch.states[streamMain].Get(base + mmapq.Pos(i))
				require.Equal(t, i%97 != 0, was == mmapq.Finished, "message %d", i)
			}
			require.Equal(t, len(ds)-len(order), c.InFlight())
		})
	}
}
