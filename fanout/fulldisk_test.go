package fanout

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// fullDisk refuses to write to plain files (the manifest) while left is 0; above 0 it lets that many writes pass, below any number.
type fullDisk struct {
	mmapq.Disk
	left atomic.Int64
}

var errFull = errors.New("no space left")

func newFullDisk() *fullDisk {
	d := &fullDisk{Disk: mmapq.NewHeapDisk()}
	d.left.Store(-1)
	return d
}

type fullFile struct {
	mmapq.File
	d *fullDisk
}

func (d *fullDisk) OpenFile(name string, create bool) (mmapq.File, error) {
	f, err := d.Disk.OpenFile(name, create)
	if err != nil {
		return nil, err
	}
	return fullFile{f, d}, nil
}

func (f fullFile) WriteAt(p []byte, off int64) (int, error) {
	if f.d.left.Load() == 0 {
		return 0, errFull
	}
	f.d.left.Add(-1)
	return f.File.WriteAt(p, off)
}

// What cannot be recorded does not happen: neither now nor after a restart.
func TestFullDiskChangesNothing(t *testing.T) {
	disk := newFullDisk()
	r := openRig(t, disk, mmapq.Options{}, Options{})
	c := r.sub(t, "t", "c", 100, ConsumerOptions{})
	tp, ch := c.Channel().Topic(), c.Channel()
	other, err := tp.Channel([]byte("other"))
	require.NoError(t, err)
	r.pub(t, "t", "a")
	require.False(t, other.Paused())

	disk.left.Store(0)
	require.ErrorIs(t, tp.SetPaused(true), errFull)
	require.ErrorIs(t, ch.SetPaused(true), errFull)
	ok, err := tp.DeleteChannel("other")
	require.True(t, ok)
	require.ErrorIs(t, err, errFull)
	_, err = tp.Channel([]byte("third"))
	require.ErrorIs(t, err, errFull)
	_, err = r.Topic([]byte("second"))
	require.ErrorIs(t, err, errFull)
	disk.left.Store(-1)

	require.False(t, tp.Paused())
	require.False(t, ch.Paused())
	require.Same(t, other, tp.LookupChannel("other"))
	require.Nil(t, tp.LookupChannel("third"))
	r.pub(t, "t", "b")
	require.Equal(t, []string{"a", "b"}, bodies(c.takeAll(t)), "the topic forwards as before")
	require.EqualValues(t, 2, other.Stats().Depth)

	require.NoError(t, tp.SetPaused(true))
	r.pub(t, "t", "c")
	disk.left.Store(0)
	require.ErrorIs(t, tp.SetPaused(false), errFull)
	require.ErrorIs(t, tp.Empty(), errFull)
	disk.left.Store(-1)
	require.True(t, tp.Paused())
	require.Empty(t, c.takeAll(t))
	require.EqualValues(t, 1, tp.Stats().Depth)

	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	require.Len(t, r.LookupTopic("t").Channels(), 2)
	require.True(t, r.LookupTopic("t").Paused())
	require.EqualValues(t, 2, r.LookupTopic("t").LookupChannel("other").Stats().Depth)
}

// The first channel is recorded, what that makes of the topic is not: the channel gets everything all the same, also after a restart.
func TestFullDiskBehindFirstChannel(t *testing.T) {
	disk := newFullDisk()
	r := openRig(t, disk, mmapq.Options{}, Options{})
	r.pub(t, "t", "a")
	disk.left.Store(1)
	c := r.sub(t, "t", "c", 100, ConsumerOptions{})
	disk.left.Store(-1)
	r.pub(t, "t", "b")
	require.Equal(t, []string{"a", "b"}, bodies(c.takeAll(t)))
	r = r.crash(t, mmapq.Options{}, Options{})
	defer r.Close()
	r.pub(t, "t", "c")
	c = r.sub(t, "t", "c", 100, ConsumerOptions{})
	require.Equal(t, []string{"a", "b", "c"}, bodies(c.takeAll(t)))
}

// A topic whose deletion cannot be recorded answers "exiting" and keeps its name, until a later attempt succeeds; only then a new one takes it.
func TestFullDiskAndDeletionOfTopic(t *testing.T) {
	for name, kill := range map[string]bool{"kill": true, "again": false} {
		t.Run(name, func(t *testing.T) {
			disk := newFullDisk()
			r := openRig(t, disk, mmapq.Options{}, Options{})
			c := r.sub(t, "t", "c", 100, ConsumerOptions{})
			r.pub(t, "t", "a", "b")
			tp := c.Channel().Topic()
			disk.left.Store(0)
			ok, err := r.DeleteTopic("t")
			require.True(t, ok)
			require.ErrorIs(t, err, errFull)
			require.Same(t, c.Channel(), <-r.sink.gone)
			c.Close(Now())
			same, err := r.Topic([]byte("t"))
			require.NoError(t, err)
			require.Same(t, tp, same)
			_, err = tp.PublishWait([][]byte{[]byte("x")})
			require.ErrorIs(t, err, ErrExiting)
			_, err = tp.Channel([]byte("new"))
			require.ErrorIs(t, err, ErrExiting)
			disk.left.Store(-1)
			if !kill {
				ok, err = r.DeleteTopic("t")
				require.NoError(t, err)
				require.True(t, ok)
				ok, err = r.DeleteTopic("t")
				require.NoError(t, err)
				require.False(t, ok)
				r.pub(t, "t", "new")
			}
			r = r.crash(t, mmapq.Options{}, Options{})
			defer r.Close()
			require.Len(t, r.Topics(), 1)
			if kill {
				require.EqualValues(t, 2, r.LookupTopic("t").LookupChannel("c").Stats().Depth, "it comes back whole")
			} else {
				c = r.sub(t, "t", "c", 100, ConsumerOptions{})
				require.Equal(t, []string{"new"}, bodies(c.takeAll(t)))
			}
		})
	}
}

// A page of a channel's state that cannot be read any more ends publishing, not the process: the reclaimer meets it.
func TestFailingStateEndsPublishing(t *testing.T) {
	dir := t.TempDir()
	r := openRig(t, mmapq.NewRealDisk(dir), mmapq.Options{}, Options{})
	defer r.Abandon()
	c := r.sub(t, "t", "c", 100, ConsumerOptions{})
	r.pub(t, "t", "a")
	require.Len(t, c.takeAll(t), 1)
	states, err := filepath.Glob(filepath.Join(dir, "*.0.state"))
	require.NoError(t, err)
	require.Len(t, states, 1)
	require.NoError(t, os.Truncate(states[0], 0))
	r.recl.kick(c.Channel().Topic())
	require.Eventually(t, func() bool { return r.Health() != nil }, 10*time.Second, time.Millisecond)
	require.ErrorContains(t, r.Health(), "mapped memory failed")
	require.True(t, c.Channel().mu.TryLock(), "no lock is left behind")
	c.Channel().mu.Unlock()
}
