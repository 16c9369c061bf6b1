package options

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResolveBroadcast(t *testing.T) {
	for _, same := range []string{"host.example", "10.1.2.3", "::1", ""} {
		got, err := resolveBroadcast(same)
		require.NoError(t, err)
		require.Equal(t, same, got)
	}
	got, err := resolveBroadcast("lo")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", got)
	got, err = resolveBroadcast("auto")
	if err != nil {
		require.ErrorContains(t, err, "--broadcast-address=auto: ")
		return // a machine without a network
	}
	require.False(t, net.ParseIP(got).IsLoopback(), got)
}

func TestBroadcastWarning(t *testing.T) {
	everywhere := []net.Addr{&net.UnixAddr{Name: "/s"}, &net.TCPAddr{IP: net.IPv6zero, Port: 4150}}
	loopback := []net.Addr{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4150}}
	require.Contains(t, BroadcastWarning(t.Context(), "127.0.0.1", everywhere), "is a loopback address, but clients are served on [::]:4150")
	require.Contains(t, BroadcastWarning(t.Context(), "::1", everywhere), "loopback")
	require.Contains(t, BroadcastWarning(t.Context(), "localhost", everywhere), "loopback")
	require.Empty(t, BroadcastWarning(t.Context(), "127.0.0.1", loopback))
	require.Empty(t, BroadcastWarning(t.Context(), "10.0.0.1", everywhere))
	require.Contains(t, BroadcastWarning(t.Context(), "no such name.invalid", loopback), "cannot be resolved here")
}
