package deploy

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// refuse makes the daemon at addr refuse a command, and returns when it has said so.
func refuse(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = c.Write([]byte("  V2SUB a?b c\n"))
	require.NoError(t, err)
	_, err = bufio.NewReader(c).ReadByte()
	require.NoError(t, err)
}
