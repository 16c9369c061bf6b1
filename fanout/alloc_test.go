package fanout

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// In steady state a message costs no allocation: neither claim nor FIN, neither put back nor delivered again, nor touched.
func TestAllocations(t *testing.T) {
	const rounds = 50
	for name, work := range map[string]func(*feed) error{
		"claim and finish": func(f *feed) error { return f.finish(f.claim()) },
		"requeue": func(f *feed) error {
			n := f.claim()
			for i := range n {
				if err := f.c.Req(f.ids[i][:], 0, 1); err != nil {
					return err
				}
			}
			f.c.EndBatch()
			return nil
		},
		"touch": func(f *feed) error {
			n := f.claim()
			for i := range 4 * n {
				if err := f.c.Touch(f.ids[i%n][:], int64(i)); err != nil {
					return err
				}
			}
			return f.finish(n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, b := newFeed(t, mmapq.NewHeapDisk())
			f.publish(t, 4*rounds)
			for range rounds { // maps and buffers grow to their size
				require.NoError(t, work(f))
			}
			per := testing.AllocsPerRun(rounds, func() {
				if err := work(f); err != nil {
					t.Error(err)
				}
			})
			require.LessOrEqual(t, per, 1.0, "allocations of a run of %d messages; the reclaimer's are among them", claimMax)
			require.NoError(t, b.Close())
		})
	}
}
