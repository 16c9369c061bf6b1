package metadata

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFileIsWhatAStockDaemonWrites(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Write(dir, "1.3.0", nil))
	requireFile(t, dir, `{"topics":null,"version":"1.3.0"}`)
	topics := []Topic{{Name: "t", Channels: []Channel{{Name: "ch"}, {Name: "c2", Paused: true}}}, {Name: "u", Paused: true}}
	require.NoError(t, Write(dir, "1.3.0", topics))
	requireFile(t, dir, `{"topics":[{"name":"t","paused":false,"channels":[{"name":"ch","paused":false},{"name":"c2","paused":true}]},`+
		`{"name":"u","paused":true,"channels":null}],"version":"1.3.0"}`)
	read, version, err := Read(dir)
	require.NoError(t, err)
	require.Equal(t, topics, read)
	require.Equal(t, "1.3.0", version)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, names, 1, "no temporary file stays behind")
}

func requireFile(t *testing.T, dir, want string) {
	t.Helper()
	text, err := os.ReadFile(Path(dir))
	require.NoError(t, err)
	require.Equal(t, want, string(text))
	info, err := os.Stat(Path(dir))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	topics, version, err := Read(dir)
	require.NoError(t, err)
	require.Empty(t, topics)
	require.Empty(t, version)

	require.NoError(t, os.WriteFile(Path(dir), nil, 0o600))
	_, _, err = Read(dir)
	require.EqualError(t, err, "failed to load metadata - failed to parse metadata in "+Path(dir)+" - unexpected end of JSON input")

	require.NoError(t, os.WriteFile(Path(dir), []byte(`{"x":1,"version":5.1e1,"topics":[{"name":"t","z":[]}]}`), 0o600))
	_, _, err = Read(dir)
	require.ErrorContains(t, err, "failed to parse metadata")

	require.NoError(t, os.WriteFile(Path(dir), []byte(`{"x":1,"topics":[{"name":"t","z":[]}]}`), 0o600))
	topics, _, err = Read(dir)
	require.NoError(t, err)
	require.Equal(t, []Topic{{Name: "t"}}, topics)

	require.NoError(t, os.Remove(Path(dir)))
	require.NoError(t, os.Mkdir(Path(dir), 0o700))
	_, _, err = Read(dir)
	require.ErrorContains(t, err, "failed to load metadata - failed to read metadata from "+Path(dir)+" - ")
}

func TestFailedWriteKeepsTheOldFileAndCleansUp(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(Path(dir), 0o700)) // cannot be renamed over
	require.NoError(t, os.WriteFile(filepath.Join(Path(dir), "x"), nil, 0o600))
	require.ErrorContains(t, Write(dir, "1", nil), "failed to persist metadata - ")
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, names, 1)
	require.ErrorContains(t, Write(filepath.Join(dir, "none"), "1", nil), "failed to persist metadata - ")
}

// recorder counts writes and can hold one up.
type recorder struct {
	mu      sync.Mutex
	writes  int
	started chan struct{}
	gate    chan struct{}
	err     error
}

func (r *recorder) write() error {
	r.started <- struct{}{}
	<-r.gate
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes++
	return r.err
}

func TestChangesShareAWrite(t *testing.T) {
	r := &recorder{started: make(chan struct{}, 100), gate: make(chan struct{}, 100)}
	failures := make(chan error, 100)
	k := NewKeeper(r.write, func(err error) { failures <- err })
	k.Changed() // covered by the first write
	r.gate <- struct{}{}
	require.NoError(t, k.Start())
	<-r.started

	k.Changed()
	<-r.started // the write of the first change is held up
	for range 10 {
		k.Changed()
	}
	r.mu.Lock()
	r.err = errors.New("planted")
	r.mu.Unlock()
	r.gate <- struct{}{}
	r.gate <- struct{}{}
	<-r.started
	require.EqualError(t, <-failures, "planted")
	require.EqualError(t, <-failures, "planted")

	r.mu.Lock()
	r.err = nil
	require.Equal(t, 3, r.writes, "first, the change, and one for the ten")
	r.mu.Unlock()
	r.gate <- struct{}{}
	require.NoError(t, k.Stop())
	require.Equal(t, 4, r.writes)
	k.Changed()
}

func TestStartReportsTheFirstWrite(t *testing.T) {
	planted := errors.New("planted")
	k := NewKeeper(func() error { return planted }, func(error) {})
	require.ErrorIs(t, k.Start(), planted)
}
