package compat

import (
	"testing"
	"time"
)

// attemptRows are proved by TestAttemptsAtTheirEnd.
var attemptRows = []string{"9.1#attempts-end"}

// TestAttemptsAtTheirEnd delivers one message more often than attempts can count.
func TestAttemptsAtTheirEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("needs 65,540 deliveries")
	}
	t.Parallel()
	p := findPeer(t)
	d := ownDaemon(t, p)
	c, err := subscribe(d, "PUB attempts\n\x00\x00\x00\x01xSUB attempts ch\nRDY 1\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if e, ok := c.next(patience, true); !ok || string(e.data) != "OK" {
			t.Fatalf("expected OK, got %s", e)
		}
	}
	c.skipBeats = true // a slow machine takes longer than a heartbeat's interval
	started := time.Now()
	const deliveries = 65540
	for n := 1; n <= deliveries; n++ {
		e, ok := c.next(patience, true)
		if !ok || e.end != "" || e.kind != frameMessage {
			t.Fatalf("delivery %d: expected a message, got %s", n, e)
		}
		m, err := parseMessage(e.data)
		if err != nil {
			t.Fatal(err)
		}
		want := n % 65536
		if p.variant == "ours" {
			want = min(n, 65534)
		}
		if int(m.attempts) != want {
			t.Fatalf("delivery %d: expected attempts %d, got %d", n, want, m.attempts)
		}
		if err := c.send([]byte("REQ "+m.id+" 0\n"), false); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d deliveries in %v", deliveries, time.Since(started).Round(time.Millisecond))
}
