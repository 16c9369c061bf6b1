package mmapq

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompactOnFullDisk: the file of a compaction, which frees more than it takes, comes out of the disk reserve, the reserve gets it back, and
// publishing goes on. Files that are larger than half the reserve are not made of it: the rest is for channel state.
func TestCompactOnFullDisk(t *testing.T) {
	b := newBrim(t, 16<<20)
	require.ErrorIs(t, b.publish(1<<20), syscall.ENOSPC)
	b.settle()
	b.d.fill(0)
	keep := every(t, b.l, 10)
	want := keep.in(readAll(t, b.l))

	lent := b.st.spare.lendable()
	done, err := b.l.Compact(b.l.Committed(), 32<<10, keep)
	require.NoError(t, err)
	require.True(t, done)
	require.False(t, b.st.spare.whole(), "the file came out of the reserve")
	require.GreaterOrEqual(t, b.st.spare.have.Load(), lent-b.st.spare.want/spareSteps, "half of it stays")
	b.l.FreeReplaced()
	require.True(t, b.st.spare.whole())
	compactAll(t, b.l, keep)
	require.True(t, b.st.spare.whole())
	b.accepts(100)
	require.Equal(t, want, keep.in(readAll(t, b.l)))
	b.st = reopen(t, b.st)
	require.Equal(t, want, keep.in(readAll(t, topic(t, b.st, "t").Logs[StreamMain])))
}

// TestSpareLendsHalf: what does not fit into half of the reserve takes nothing of it, and what fits but fails all the same no more than half.
func TestSpareLendsHalf(t *testing.T) {
	b := newBrim(t, 16<<20)
	s := b.st.spare
	full := func() error { return syscall.ENOSPC }
	require.ErrorIs(t, s.retryFor(s.want/2+1, full), syscall.ENOSPC)
	require.True(t, s.whole())
	require.ErrorIs(t, s.retryFor(s.want/2, full), syscall.ENOSPC, "others were quicker")
	require.Equal(t, s.want/2, s.have.Load())
	require.ErrorIs(t, s.retryFor(1, func() error { return syscall.EIO }), syscall.EIO)
	require.Equal(t, s.want/2, s.have.Load())
}
