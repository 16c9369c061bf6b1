package compat

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// raceRounds is how many deletions each kind of race sees.
const raceRounds = 150

// TestSubRacesWithDelete subscribes while the channel or topic is being deleted.
// Nobody can hold a daemon inside a deletion, so the rows of section 8.1 about
// it can only be bounded: whoever loses the race is told so in the words of
// those rows or finds the socket closed as for any deletion, and whoever gets
// an OK has a channel that works or is closed. Nothing else is answered.
func TestSubRacesWithDelete(t *testing.T) {
	t.Parallel()
	d := ownDaemon(t, findPeer(t))
	for _, kind := range []struct{ name, sub, deletion string }{
		{"channel", "SUB race-channel ch\n", "/channel/delete?topic=race-channel&channel=ch"},
		{"topic", "SUB race-topic ch\n", "/topic/delete?topic=race-topic"},
		{"ephemeral channel", "SUB race-ephemeral ch#ephemeral\n", ""},
		{"ephemeral topic", "SUB race#ephemeral ch#ephemeral\n", ""},
	} {
		t.Run(kind.name, func(t *testing.T) {
			outcomes := map[string]int{}
			for range raceRounds {
				outcome, err := raceOnce(d, kind.sub, kind.deletion)
				if err != nil {
					t.Fatal(err)
				}
				outcomes[outcome]++
			}
			t.Logf("outcomes: %v", outcomes)
		})
	}
}

// raceOnce subscribes once, then again while the deletion runs; with no path to
// post the deletion is that of an ephemeral channel which the first consumer
// leaves.
func raceOnce(d *daemon, sub, deletion string) (string, error) {
	first, err := subscribe(d, sub)
	if err != nil {
		return "", err
	}
	// Until this deletion no other is under way: the previous round was closed.
	if _, err := lossOrOK(first); err != nil {
		return "", fmt.Errorf("first consumer: %w", err)
	}
	var deleting sync.WaitGroup
	var deleteErr error
	deleting.Go(func() {
		if deletion == "" {
			deleteErr = first.close()
			return
		}
		deleteErr = post(d, deletion)
	})
	second, err := subscribe(d, sub)
	if err != nil {
		return "", err
	}
	outcome, err := lossOrOK(second)
	deleting.Wait()
	if err == nil {
		err = deleteErr
	}
	for _, c := range []*conn{first, second} {
		if closeErr := c.close(); err == nil {
			err = closeErr
		}
	}
	return outcome, err
}

func subscribe(d *daemon, sub string) (*conn, error) {
	c, err := dial(d.network, d.tcp, 0)
	if err != nil {
		return nil, err
	}
	return c, c.send([]byte("  V2"+sub), false)
}

// lossOrOK reads the answer to a SUB that races with a deletion.
func lossOrOK(c *conn) (string, error) {
	e, ok := c.next(patience, true)
	if !ok {
		return "", fmt.Errorf("a SUB without an answer")
	}
	text := string(e.data)
	switch {
	case e.end == "eof" || e.end == "reset":
		return "closed", nil
	case e.end == "" && e.kind == frameResponse && text == "OK":
		return "OK", nil
	case e.end == "" && e.kind == frameError &&
		(text == "E_SUB_FAILED SUB failed exiting" || text == "E_SUB_FAILED SUB failed to deleted topic/channel"):
		if after, ok := c.next(patience, true); !ok || after.end == "" {
			return "", fmt.Errorf("no close after %s, but %s", e, after)
		}
		return text, nil
	}
	return "", fmt.Errorf("a SUB that races with a deletion was answered with %s", e)
}

func post(d *daemon, path string) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+d.http+path, strings.NewReader(""))
	if err != nil {
		return err
	}
	status, body, err := roundTrip(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("POST %s: %d %s", path, status, body)
	}
	return err
}
