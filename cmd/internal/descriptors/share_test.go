package descriptors

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShare(t *testing.T) {
	require.Equal(t, Connections{TCP: 736, HTTP: 128}, share(1024, 0))
	require.Equal(t, Connections{TCP: 1<<20 - 8192, HTTP: 4096}, share(1<<20, 0))
	require.Equal(t, Connections{TCP: 77, HTTP: 4096}, share(1<<64-1, 77))
	require.Equal(t, Connections{TCP: 77, HTTP: 128}, share(1024, 77))
	require.Equal(t, Connections{TCP: 736, HTTP: 128}, share(1024, 5000), "more than the limit has room for")
	require.Equal(t, Connections{TCP: 1, HTTP: 0}, share(0, 0))
}
