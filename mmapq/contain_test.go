package mmapq

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// cut makes every page of a mapped file fail, as a disk that reports errors does.
func cut(t *testing.T, dir, name string) {
	t.Helper()
	require.NoError(t, os.Truncate(filepath.Join(dir, name), 0))
}

// TestFailingPagesEndPublishing: whatever background goroutine meets a failing page, it ends publishing and not the process.
func TestFailingPagesEndPublishing(t *testing.T) {
	for name, meet := range map[string]func(t *testing.T, dir string, st *Store, meta TopicMeta, l *Log){
		"syncer": func(t *testing.T, dir string, st *Store, _ TopicMeta, l *Log) {
			cut(t, dir, slotName(l.open.slot.id))
			st.sync.round()
			require.Error(t, l.AwaitDurable(l.Committed()))
			require.Zero(t, l.open.pins.Load(), "the pin is given back")
		},
		"close": func(t *testing.T, dir string, st *Store, _ TopicMeta, l *Log) {
			cut(t, dir, slotName(l.open.slot.id))
			l.Close()
			require.True(t, l.mu.TryLock(), "the lock is given back")
			l.mu.Unlock()
		},
		"drop of a channel": func(t *testing.T, dir string, st *Store, meta TopicMeta, _ *Log) {
			_, slot, states := newChannel(t, st, meta, "c", meta.Base)
			cut(t, dir, tableName)
			require.Error(t, st.Contain(func() error { return st.DropChannel(slot, states, false) }))
			require.True(t, st.reclaim.TryLock(), "the lock is given back")
			st.reclaim.Unlock()
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, NewRealDisk(dir), small)
			meta, logs := newTopic(t, st, "t")
			appendAll(t, logs[StreamMain], makeBodies(1, 0, 10, 1000))
			meet(t, dir, st, meta, logs[StreamMain])
			require.ErrorContains(t, st.Failed(), "mapped memory failed")
			_, err := logs[StreamMain].AppendWait(makeBodies(1, 0, 1, 10), 1, 0)
			require.Error(t, err)
		})
	}
}

// TestFailingPagesAtStart: a start that meets one is refused.
func TestFailingPagesAtStart(t *testing.T) {
	dir := t.TempDir()
	st := open(t, NewRealDisk(dir), small)
	_, logs := newTopic(t, st, "t")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 10, 1000))
	st.Abandon()
	_, err := Open(&cutDisk{Disk: NewRealDisk(dir), dir: dir}, small)
	require.ErrorContains(t, err, "mapped memory failed")
	require.NoError(t, contain(func() error { return nil }))
	require.ErrorContains(t, contain(func() error { panic("x") }), "BUG: x")
}

// cutDisk cuts segments short as soon as they are mapped.
type cutDisk struct {
	Disk
	dir string
}

func (d *cutDisk) OpenMapped(name string) (*Mapping, error) {
	m, err := d.Disk.OpenMapped(name)
	if err == nil {
		err = os.Truncate(filepath.Join(d.dir, name), 0)
	}
	return m, err
}
