package lookupd

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A census counts what lookups show at that moment.
func TestCensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTestRegistry()
		require.Empty(t, r.Census())
		quiet, lively := addPeer(r, 1), addPeer(r, 2)
		register(t, r, quiet, "a", "c")
		register(t, r, lively, "a", "")
		require.NoError(t, r.CreateChannel("b", "d"))
		require.Equal(t, 2, r.Peers())
		require.Equal(t, []Census{{"a", 1, 2, 0}, {"b", 1, 0, 0}}, r.Census())
		r.Tombstone("a", "host2:4151")
		require.Equal(t, []Census{{"a", 1, 1, 1}, {"b", 1, 0, 0}}, r.Census())
		time.Sleep(4 * time.Minute)
		r.Ping(lively)
		require.Equal(t, []Census{{"a", 1, 2, 0}, {"b", 1, 0, 0}}, r.Census(), "the tombstone is over")
		time.Sleep(90 * time.Second)
		require.Equal(t, []Census{{"a", 1, 1, 0}, {"b", 1, 0, 0}}, r.Census(), "one peer is inactive")
		r.RemovePeer(lively)
		require.Equal(t, 1, r.Peers())
		require.Equal(t, []Census{{"a", 1, 0, 0}, {"b", 1, 0, 0}}, r.Census())
	})
}
