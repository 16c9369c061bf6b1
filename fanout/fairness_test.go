package fanout

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// jain is 1 when all shares are equal and 1/n when one has everything.
func jain(shares []float64) float64 {
	var sum, squares float64
	for _, s := range shares {
		sum += s
		squares += s * s
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// simplePump lets the consumers that could take a message claim in turn, beginning behind the last one, until there is nothing to take.
type simplePump struct {
	consumers []*Consumer
	ready     []bool
	next      int
	scratch   Scratch
	run       Run
	held      [][]uint64
	taken     []float64
}

func (p *simplePump) update(i int) {
	if r := p.consumers[i].Credit() > 0; r != p.ready[i] {
		p.ready[i] = r
		p.consumers[i].Channel().AddReady(map[bool]int{true: 1, false: -1}[r])
	}
}

func (p *simplePump) pump() {
	for idle := 0; idle < len(p.consumers); {
		i := p.next
		p.next = (p.next + 1) % len(p.consumers)
		c := p.consumers[i]
		if !p.ready[i] || !c.Claim(1, &p.scratch, &p.run) {
			idle++
			continue
		}
		idle = 0
		p.taken[i] += float64(p.run.N)
		for k := range p.run.N {
			p.held[i] = append(p.held[i], p.run.id(k))
		}
		p.run.Release()
		p.update(i)
	}
}

// finish answers what consumer i holds.
func (p *simplePump) finish(i int) error {
	for _, id := range p.held[i] {
		if err := p.consumers[i].Fin(fmt.Appendf(nil, "%016x", id), Now()); err != nil {
			return err
		}
	}
	p.held[i] = p.held[i][:0]
	p.consumers[i].EndBatch()
	p.update(i)
	return nil
}

// Four equal consumers get equal shares, whether messages trickle or come in floods, and however many each may hold.
func TestEqualConsumersGetEqualShares(t *testing.T) {
	for _, rdy := range []int64{1, 8, 200} {
		for _, batch := range []int{1, 3, 50, 4000} {
			t.Run(fmt.Sprintf("rdy%d/batch%d", rdy, batch), func(t *testing.T) {
				r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
				defer r.Close()
				p := &simplePump{ready: make([]bool, 4), held: make([][]uint64, 4), taken: make([]float64, 4)}
				for i := range 4 {
					p.consumers = append(p.consumers, r.sub(t, "t", "c", rdy, ConsumerOptions{}))
					p.update(i)
				}
				rng := rand.New(rand.NewPCG(uint64(rdy), uint64(batch)))
				list := numbers(0, batch)
				for published := 0; published < 8000; published += batch {
					r.pub(t, "t", list...)
					for p.pump(); p.consumers[0].Channel().Stats().Depth > 0; p.pump() {
						for _, i := range rng.Perm(4) { // equally fast, in no order
							require.NoError(t, p.finish(i))
							p.pump()
						}
					}
					for i := range 4 {
						require.NoError(t, p.finish(i))
					}
				}
				t.Logf("shares %v", p.taken)
				require.GreaterOrEqual(t, jain(p.taken), 0.95, "%v", p.taken)
			})
		}
	}
}

// The runs of one consumer among many are short only while messages are.
func TestShare(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer r.Close()
	c := r.sub(t, "t", "c", 200, ConsumerOptions{})
	for _, x := range []struct {
		ready, credit int
		avail         int64
		want          int
	}{
		{1, 200, 1000, 200},    // alone
		{4, 200, 2, 1},         // fewer than consumers
		{4, 200, 16, 4},        // equal parts
		{4, 200, 17, 12},       // plenty: a short run, RDY/16
		{4, 200, 4000, 200},    // all the credit
		{4, 5, 4000, 5},        // no more than the credit
		{100, 200, 400, 4},     // 4 x as many as consumers
		{100, 200, 401, 12},    // plenty again
		{1, 2500, 4000, 1024},  // one run
		{0, 200, 1000, 200},    // nobody told
		{1000, 200, 50000, 50}, // equal parts above a short run
	} {
		c.Channel().ready.Store(int32(x.ready))
		require.Equal(t, x.want, c.share(x.credit, x.avail), "%+v", x)
	}
}
