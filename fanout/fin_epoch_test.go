package fanout

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// A FIN that was on its way into the state when the channel was emptied goes nowhere: as soon as the lease has taken notice, the state below the
// new floor may be unmapped.
func TestFinsOnTheirWayEndWithAnEmpty(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{})
	defer func() { require.NoError(t, r.Close()) }()
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	r.pub(t, "t", "a", "b")
	d := c.takeAll(t)
	require.NoError(t, c.Fin([]byte(d[0].id), Now()))
	require.Less(t, c.fins.from, c.fins.to)
	require.NoError(t, c.Channel().Empty())
	require.ErrorIs(t, c.Fin([]byte(d[1].id), Now()), ErrNotInFlight)
	require.Equal(t, c.fins.from, c.fins.to)
	c.EndBatch()
	require.Zero(t, c.Channel().Stats().Depth)
}
