package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A client that waits for its answer before it ends a body that is too long gets it at once, not when the time for the body is over.
func TestRefusalDoesNotWaitForTheRestOfTheBody(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.timeouts = timeouts{header: time.Hour, body: time.Hour, write: time.Hour, idle: time.Hour}
	})
	c := dial(t, "tcp", f.addr)
	c.send(t, "POST /pub?topic=t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n"+strings.Repeat("x", 1<<20+100))
	got, err := c.read("POST")
	require.NoError(t, err)
	require.Equal(t, 413, got.status)
}
