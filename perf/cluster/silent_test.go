package cluster

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/stretchr/testify/require"
)

// tarpit is an nsqlookupd that identifies itself and answers nothing else: neither commands nor HTTP.
func tarpit(t *testing.T) (addr string) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, tcp.Close())
		require.NoError(t, web.Close())
	})
	keep := func(l net.Listener, serve func(c net.Conn)) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
				// Whatever comes is taken and never answered.
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}
	go keep(web, func(net.Conn) {})
	identity := fmt.Sprintf(`{"broadcast_address":"127.0.0.1","http_port":%d,"tcp_port":1,"version":"1.3.0"}`, web.Addr().(*net.TCPAddr).Port)
	go keep(tcp, func(c net.Conn) {
		if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && strings.HasSuffix(line, "IDENTIFY\n") {
			// If this cannot be written, nsqd is gone.
			_, _ = c.Write(codec.AppendLookupBody(nil, []byte(identity)))
		}
	})
	return tcp.Addr().String()
}

// Publishing, and delivery on topics that exist, do not notice that an nsqlookupd is silent. The first delivery of a new topic waits a bounded time.
func TestSilentLookupdDelaysNobody(t *testing.T) {
	r := newRig(t)
	if *nsqdFlag != "" {
		t.Skip("a stock nsqd makes the publisher of a new topic wait")
	}
	silent := tarpit(t)
	nsqd := r.start(r.nsqd, t.TempDir(), "--lookupd-tcp-address="+silent, "--http-client-request-timeout=6s")
	require.Eventually(t, func() bool { return nsqd.Logged("peer info") }, patience, 5*time.Millisecond)
	began := time.Now()
	for i := range 20 {
		publish(t, nsqd, fmt.Sprintf("topic%d", i), "x")
	}
	require.Less(t, time.Since(began), 60*time.Second, "twenty new topics, each of which asks in vain for six seconds")
	require.NoError(t, nsqd.API().CreateTopic(t.Context(), "topic19", "channel"))
	require.Eventually(t, func() bool {
		topic, err := nsqd.API().Topic(t.Context(), "topic19")
		return err == nil && topic.Depth == 0 && topic.Channels[0].Depth == 1
	}, patience, 20*time.Millisecond, "in the end it is let go")
	require.True(t, nsqd.Logged("failed to query nsqlookupd for channels to pre-create for topic topic19"))
}
