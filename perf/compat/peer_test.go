package compat

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

var peerFlag = flag.String("peer", os.Getenv("PEER"), "nsqd binary to test; empty builds ./cmd/nsqd")

// A peer is the binary under test.
type peer struct {
	path    string
	version string // what it says of itself, e.g. 1.3.0
	variant string // "stock" or "ours"
}

const stockVersion = "1.3.0"

var (
	versionLine = regexp.MustCompile(`^nsqd v(\S+) \(built w/go`)
	oursVersion = regexp.MustCompile(`^1\.3\.0\+nsqloop\.\S+$`)
)

// buildDir holds the binary that buildPeer made, if it did; TestMain removes it.
var buildDir string

// resolvePeer names the binary under test and asks for its version, which
// decides which side of the list of differences holds.
var resolvePeer = sync.OnceValues(func() (peer, error) {
	path := *peerFlag
	if path == "" {
		var err error
		if path, err = buildPeer(); err != nil {
			return peer{}, err
		}
	}
	out, err := exec.Command(path, "-version").Output()
	if err != nil {
		return peer{}, fmt.Errorf("%s -version: %w", path, err)
	}
	m := versionLine.FindSubmatch(bytes.TrimSpace(out))
	if m == nil {
		return peer{}, fmt.Errorf("%s -version: not the version line of an nsqd: %q", path, out)
	}
	p := peer{path: path, version: string(m[1])}
	switch {
	case oursVersion.MatchString(p.version):
		p.variant = "ours"
	case p.version == stockVersion:
		p.variant = "stock"
	default:
		return peer{}, fmt.Errorf("%s: version %q is neither %s nor an nsqloop version", path, p.version, stockVersion)
	}
	return p, nil
})

func findPeer(t *testing.T) peer {
	t.Helper()
	p, err := resolvePeer()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peer: %s, version %s, taken as %s", p.path, p.version, p.variant)
	return p
}

// buildPeer builds this module's nsqd, with the race detector when the test
// itself was built with it.
func buildPeer() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	if buildDir, err = os.MkdirTemp("", "compat-build-"); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir, "nsqd")
	args := []string{"build", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/nsqd")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return path, nil
}

// moduleRoot is the nearest folder upwards with a go.mod; tests run in the
// folder of their package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the test")
		}
		dir = parent
	}
}
