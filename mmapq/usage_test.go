package mmapq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a power cut would take: frames of all segments since the last sync, and nothing of a log in memory.
func TestBytesAtRisk(t *testing.T) {
	st := open(t, NewHeapDisk(), Options{SegmentMax: 64 << 10, SyncTimeout: time.Hour})
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	require.Zero(t, l.bytesAtRisk())
	appendAll(t, l, makeBodies(1, 0, 200, 1000)) // four segments
	require.EqualValues(t, 200, l.AtRisk())
	want := int64(0)
	for _, m := range readAll(t, l) {
		want += FrameHeader + int64(len(m.body))
	}
	require.Equal(t, want, l.bytesAtRisk())
	st.sync.round()
	require.Zero(t, l.bytesAtRisk())
	appendAll(t, l, [][]byte{[]byte("x")})
	u := st.Usage()
	u.AddLog(l)
	require.EqualValues(t, 1, u.UnsyncedMessages)
	require.EqualValues(t, FrameHeader+1, u.UnsyncedBytes)
}

// An ephemeral topic's segments leave nothing in the directory and do not count as memory of the process.
func TestSegmentsWithoutName(t *testing.T) {
	d := NewRealDisk(t.TempDir())
	m, err := d.Anonymous(1 << 20)
	require.NoError(t, err)
	require.NoError(t, m.Populate(0, len(m.Mem)))
	require.Equal(t, make([]byte, 1<<20), m.Mem)
	copy(m.Mem, "stays")
	require.NoError(t, m.SyncRange(0, 4096))
	require.Equal(t, "stays", string(m.Mem[:5]))
	names, err := d.List()
	require.NoError(t, err)
	require.Empty(t, names)
	require.NoError(t, m.Unmap())
}
