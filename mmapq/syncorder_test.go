package mmapq

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSyncCountsOnlyWhatItsManifestKnows: messages that come in the middle of a round, into segments which the manifest has been synced without,
// are not durable after that round, whether their bytes are on the disk or not.
func TestSyncCountsOnlyWhatItsManifestKnows(t *testing.T) {
	for _, during := range []string{opSyncDir, opMsync} {
		t.Run(during, func(t *testing.T) {
			d := newCrashDisk()
			var l *Log
			armed := false
			st := open(t, &faultDisk{Disk: d, before: func(op, _ string) error {
				if armed && op == during {
					armed = false
					appendAll(t, l, makeBodies(1, 100, 1, 30000))
					for i := range 200 { // one by one: no pwrite, several segments
						appendAll(t, l, makeBodies(1, 101+i, 1, 1000))
					}
				}
				return nil
			}}, small)
			_, logs := newTopic(t, st, "t")
			l = logs[StreamMain]
			appendAll(t, l, makeBodies(1, 0, 20, 100))
			armed = true
			st.sync.round()
			require.False(t, armed)
			require.NoError(t, st.Failed())
			promised := Pos(l.durable.Load())
			var want []message
			for _, m := range readAll(t, l) {
				if m.pos < promised {
					want = append(want, m)
				}
			}
			require.GreaterOrEqual(t, len(want), 20)
			st.Abandon()
			left := open(t, d.afterCut(nil), small)
			got := readAll(t, topic(t, left, "t").Logs[StreamMain])
			require.GreaterOrEqual(t, len(got), len(want))
			require.Equal(t, want, got[:len(want)])
		})
	}
}
