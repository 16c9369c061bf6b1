package compat

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStatsd captures two pushes around the same traffic. Names, types, order and values are the same for every nsqd; only how much heap there
// is and how long a message took are nobody's promise.
func TestStatsd(t *testing.T) {
	p := findPeer(t)
	receiver, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer receiver.Close()
	d, err := startDaemon(p, t.TempDir(), []string{
		"--statsd-address=" + receiver.LocalAddr().String(), "--statsd-interval=2s", "--statsd-prefix=my.%s.nsq",
		"--broadcast-address=some.host", "--broadcast-http-port=77", "--statsd-udp-packet-size=200", "--mem-queue-size=10",
		"--e2e-processing-latency-percentile=0.5,0.999", "--statsd-exclude-ephemeral",
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.terminate()) }()

	call := func(path, body string) {
		t.Helper()
		request, err := http.NewRequest(http.MethodPost, "http://"+d.http+path, strings.NewReader(body))
		require.NoError(t, err)
		status, reply, err := roundTrip(request)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, reply)
	}
	call("/topic/create?topic=gone%23ephemeral", "")
	call("/topic/create?topic=b", "")
	call("/topic/create?topic=a", "")
	call("/channel/create?topic=a&channel=work", "")
	call("/channel/create?topic=a&channel=gone%23ephemeral", "")
	call("/mpub?topic=a", "one\ntwo\nthree")
	call("/pub?topic=a&defer=3600000", "later")
	call("/mpub?topic=b", strings.Repeat("waits\n", 12)) // nobody takes from a topic without a channel: two are beyond the memory queue
	finishOne(t, d, "a", "work")

	first := readPush(t, receiver)
	second := readPush(t, receiver)
	require.Equal(t, expectedStatsd(4, 11+5, 12, 12*5), first, "totals since start")
	require.Equal(t, expectedStatsd(0, 0, 0, 0), second, "what was added since")
}

// finishOne consumes one message and leaves the rest.
func finishOne(t *testing.T, d *daemon, topic, channel string) {
	t.Helper()
	c, err := net.Dial("tcp", d.tcp)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(stopDeadline)))
	in := bufio.NewReader(c)
	_, err = fmt.Fprintf(c, "  V2SUB %s %s\nRDY 1\n", topic, channel)
	require.NoError(t, err)
	var id string
	for id == "" {
		e := readFrame(in)
		require.Empty(t, e.end)
		if e.kind == frameMessage {
			id = string(e.data[10:26])
		}
	}
	// RDY 0 first, so that nothing else is taken; the answer to CLS says that everything before it was done.
	_, err = fmt.Fprintf(c, "RDY 0\nFIN %s\nCLS\n", id)
	require.NoError(t, err)
	for {
		e := readFrame(in)
		require.Empty(t, e.end)
		if e.kind == frameResponse && string(e.data) == "CLOSE_WAIT" {
			return
		}
	}
}

// readPush returns the lines of one push with what differs by nature cut off.
func readPush(t *testing.T, receiver *net.UDPConn) []string {
	t.Helper()
	require.NoError(t, receiver.SetReadDeadline(time.Now().Add(startDeadline)))
	var lines []string
	packet := make([]byte, 1<<16)
	for {
		n, err := receiver.Read(packet)
		require.NoError(t, err)
		require.LessOrEqual(t, n, 200)
		require.Equal(t, byte('\n'), packet[n-1], "a datagram ends with a line")
		for line := range strings.Lines(string(packet[:n])) {
			line = strings.TrimSuffix(line, "\n")
			name, rest, _ := strings.Cut(line, ":")
			_, kind, _ := strings.Cut(rest, "|")
			if strings.Contains(name, ".mem.") || strings.Contains(name, "e2e_processing_latency") {
				line = name + "|" + kind
			}
			lines = append(lines, line)
			if strings.HasSuffix(name, ".mem.gc_runs") {
				return lines
			}
		}
	}
}

func expectedStatsd(count, bytes, countB, bytesB int) []string {
	lines := []string{
		fmt.Sprintf("topic.a.message_count:%d|c", count),
		fmt.Sprintf("topic.a.message_bytes:%d|c", bytes),
		"topic.a.depth:0|g",
		"topic.a.backend_depth:0|g",
		"topic.a.e2e_processing_latency_100|g",
		"topic.a.e2e_processing_latency_50|g",
		fmt.Sprintf("topic.a.channel.work.message_count:%d|c", count),
		"topic.a.channel.work.depth:2|g",
		"topic.a.channel.work.backend_depth:0|g",
		"topic.a.channel.work.in_flight_count:0|g",
		"topic.a.channel.work.deferred_count:1|g",
		"topic.a.channel.work.requeue_count:0|c",
		"topic.a.channel.work.timeout_count:0|c",
		"topic.a.channel.work.clients:0|g",
		"topic.a.channel.work.e2e_processing_latency_100|g",
		"topic.a.channel.work.e2e_processing_latency_50|g",
		fmt.Sprintf("topic.b.message_count:%d|c", countB),
		fmt.Sprintf("topic.b.message_bytes:%d|c", bytesB),
		"topic.b.depth:12|g",
		"topic.b.backend_depth:2|g",
		"mem.heap_objects|g", "mem.heap_idle_bytes|g", "mem.heap_in_use_bytes|g", "mem.heap_released_bytes|g",
		"mem.gc_pause_usec_100|g", "mem.gc_pause_usec_99|g", "mem.gc_pause_usec_95|g", "mem.next_gc_bytes|g", "mem.gc_runs|c",
	}
	for i := range lines {
		lines[i] = "my.some_host_77.nsq." + lines[i]
	}
	return lines
}
