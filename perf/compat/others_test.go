package compat

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	child "github.com/nsqloop/nsqloop/perf/daemon"
)

var peerLookupdFlag = flag.String("peer-lookupd", os.Getenv("PEER_LOOKUPD"), "nsqlookupd binary to test; empty builds ./cmd/nsqlookupd")

// TestHTTPAndLookup plays the conversations of the two other protocols with real processes: nsqd's HTTP API, and nsqlookupd's HTTP API and V1
// protocol. They stand beside the code they describe, where they also run in process: httpapi/conversations_test.go, httpapi/lookup_test.go and
// lookupd/server_test.go.
func TestHTTPAndLookup(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts two daemons")
	}
	t.Parallel()
	p := findPeer(t)
	nsqd := startPlain(t, p.path, t.TempDir())
	registry := startPlain(t, lookupdPath(t), "")
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	// The registry must be empty when its HTTP conversations begin, so they come before those that register.
	cmd := exec.Command("go", "test", "-count=1", "-p=1", "-run=^(TestConversations|TestLookupConversations)$", "./httpapi", "./lookupd")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "PEER_HTTP="+nsqd.HTTPAddr, "PEER_LOOKUP_HTTP="+registry.HTTPAddr, "PEER_LOOKUP_TCP="+registry.TCPAddr)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	for _, d := range []*child.Process{nsqd, registry} {
		if err := d.Stop(stopDeadline); err != nil {
			t.Errorf("%v\n%s", err, d.Tail(40))
		}
	}
}

// lookupdPath is the nsqlookupd to test, built once if none is named.
func lookupdPath(t *testing.T) string {
	t.Helper()
	path, err := buildLookupd()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildLookupd = sync.OnceValues(func() (string, error) {
	if *peerLookupdFlag != "" {
		return *peerLookupdFlag, nil
	}
	var err error
	if lookupdDir, err = os.MkdirTemp("", "compat-lookupd-"); err != nil {
		return "", err
	}
	path := filepath.Join(lookupdDir, "nsqlookupd")
	return path, child.BuildPackage(context.Background(), path, child.LookupPackage)
})

var lookupdDir string // TestMain removes it

func startPlain(t *testing.T, path, data string, args ...string) *child.Process {
	t.Helper()
	d, err := child.Start(context.Background(), child.Options{Path: path, DataPath: data, Ready: time.Minute, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Kill(); err != nil {
			t.Error(err)
		}
	})
	return d
}
