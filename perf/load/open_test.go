package load

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

// A broker that does not answer for a while is charged for every message that was due meanwhile.
func TestPaceKeepsItsSchedule(t *testing.T) {
	b := newBroker(t)
	const silence = 200 * time.Millisecond
	b.pause = silence
	pacing, err := Pace{Addr: b.addr(), Topic: "t", Conns: 2, Rate: 1000, Messages: 400, Size: 200, Skip: 10}.Prepare(context.Background())
	require.NoError(t, err)
	defer pacing.Close()
	began := time.Now()
	require.NoError(t, pacing.Run(context.Background()))
	require.GreaterOrEqual(t, time.Since(began), 399*time.Millisecond, "it never runs ahead")
	acks := pacing.Acknowledgements()
	require.EqualValues(t, 390, acks.TotalCount())
	require.GreaterOrEqual(t, acks.Max(), int64(silence*9/10))
	// One connection was silent: half of the 200 messages that were due in that time belong to it, and half of those waited half of it.
	require.GreaterOrEqual(t, acks.ValueAtQuantile(90), int64(silence/10))
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Equal(t, 400, b.messages)
	late, counts := pacing.Late(b.first)
	require.False(t, counts, "the first one is skipped")
	require.GreaterOrEqual(t, late, int64(399*time.Millisecond))
}

func TestPaceFailsOnAnError(t *testing.T) {
	b := newBroker(t)
	b.refuse = true
	pacing, err := Pace{Addr: b.addr(), Topic: "t", Conns: 1, Rate: 1000, Messages: 100, Size: 20}.Prepare(context.Background())
	require.NoError(t, err)
	defer pacing.Close()
	require.Error(t, pacing.Run(context.Background()))
	_, err = Pace{Size: StampSize - 1}.Prepare(context.Background())
	require.ErrorContains(t, err, "no room for a stamp")
}

func TestSubscribersAnswer(t *testing.T) {
	b := newBroker(t)
	b.toSend, b.frame = 2, make([]byte, codec.MessageHeader+300)
	crowd, err := Subscribers{
		Addr: b.addr(), Conns: 50, RDY: 1, Place: func(n int) (string, string) { return "t" + strconv.Itoa(n), "c" },
	}.Subscribe(context.Background())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return crowd.Taken.Load() == 100 && b.fins[0] == 50 && b.fins[1] == 50 && b.nops == 50
	}, 20*time.Second, time.Millisecond, "every message is finished and every heartbeat answered")
	require.NoError(t, crowd.Close())

	_, err = Subscribers{Addr: b.addr(), Conns: 1, Place: func(int) (string, string) { return "t", "c" }}.Subscribe(cancelled())
	require.Error(t, err)
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestHTTPPublishersSendWhatTheyShould(t *testing.T) {
	var requests, bytes atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Query().Get("topic") != "t" {
			http.Error(w, "BAD", http.StatusBadRequest)
			return
		}
		requests.Add(1)
		bytes.Add(int64(len(body)))
		_, _ = io.WriteString(w, "OK")
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	for _, batch := range []int{0, 10} {
		requests.Store(0)
		bytes.Store(0)
		p, err := HTTPPublisher{Addr: addr, Topic: "t", Conns: 2, Messages: 100, Size: 50, Batch: batch}.Prepare(context.Background())
		require.NoError(t, err)
		require.NoError(t, p.Run(context.Background()))
		p.Close()
		each, size := int64(max(1, batch)), int64(50)
		if batch > 0 {
			size = (4 + 10*(4+50)) / 10 // the last digits go to the count
		}
		require.Equal(t, 100/each, requests.Load())
		require.InDelta(t, 100*size, bytes.Load(), 60)
	}
	p, err := HTTPPublisher{Addr: addr, Topic: "other", Conns: 1, Messages: 1, Size: 1}.Prepare(context.Background())
	require.NoError(t, err)
	defer p.Close()
	require.ErrorContains(t, p.Run(context.Background()), "status 400")
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.ErrorContains(t, Post(conn, "/x"), "status 400")
	require.NoError(t, Post(conn, "/x?topic=t"), "the connection is kept")
	require.NoError(t, conn.Close())
}

func TestReply(t *testing.T) {
	const whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\n\r\nOK"
	for n := range len(whole) {
		_, _, size, err := Reply([]byte(whole[:n]))
		require.NoError(t, err)
		require.Zero(t, size, n)
	}
	status, body, size, err := Reply([]byte(whole + "HTTP"))
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, "OK", string(body))
	require.Equal(t, len(whole), size)
	for _, bad := range []string{"HTTP/1.1 200 OK\r\n\r\n", "SMTP\r\n\r\n", "HTTP/1.1 abc\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"} {
		_, _, _, err := Reply([]byte(bad))
		require.Error(t, err, bad)
	}
}
