package mmapq

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// brim is a topic with one channel on a disk with a quota.
type brim struct {
	t      *testing.T
	d      *quotaDisk
	st     *Store
	meta   TopicMeta
	l      *Log
	c      ChannelMeta
	slot   *ChannelSlot
	states [2]*State
	floor  Pos
	sent   int

	mu    sync.Mutex
	warns []string
}

func (b *brim) options() Options {
	o := small
	o.DiskReserve = 512 << 10
	o.Warn = func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.warns = append(b.warns, fmt.Sprintf(format, args...))
	}
	return o
}

func (b *brim) warned(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(strings.Join(b.warns, "\n"), text)
}

func newBrim(t *testing.T, total int64) *brim {
	b := &brim{t: t, d: newQuotaDisk(total)}
	b.st = open(t, b.d, b.options())
	b.st.retry = time.Millisecond
	var logs [2]*Log
	b.meta, logs = newTopic(t, b.st, "t")
	b.l = logs[StreamMain]
	b.c, b.slot, b.states = newChannel(t, b.st, b.meta, "c", b.meta.Base)
	b.floor = b.meta.Base[StreamMain]
	return b
}

// publish stores messages of 1,000 bytes until it is refused, at most n.
func (b *brim) publish(n int) error {
	for range n {
		if _, err := b.l.AppendWait(makeBodies(1, b.sent, 1, 1000), 1, 0); err != nil {
			return err
		}
		b.sent++
	}
	return nil
}

// settle waits until the preparer has nothing to do.
func (b *brim) settle() {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	for b.l.asked {
		b.l.ready.Wait()
	}
}

// consume claims and finishes everything and frees it.
func (b *brim) consume() {
	end := b.l.Committed()
	for at := b.floor; at < end; {
		from, to := b.l.Next(at, end)
		if from < end {
			b.states[0].Ensure(from, int(to-from))
			for p := from; p < to; p++ {
				require.True(b.t, b.states[0].Finish(p), "position %d", p)
			}
		}
		at = max(to, from)
	}
	b.floor = end
	b.slot.SetCursor(StreamMain, end)
	b.slot.SetFloor(StreamMain, end)
	b.states[0].MarkDirty()
	b.l.Truncate(func(_, to Pos) bool { return to > end })
	require.NoError(b.t, b.st.ReleaseState(b.states[0], end))
}

// accepts publishes n messages; the first attempts may still be refused.
func (b *brim) accepts(n int) {
	require.Eventually(b.t, func() bool { return b.publish(1) == nil }, time.Second, time.Millisecond)
	require.NoError(b.t, b.publish(n-1))
}

// restart acts out a kill.
func (b *brim) restart() {
	b.st.Abandon()
	b.st = open(b.t, b.d, b.options())
	b.st.retry = time.Millisecond
	rt := topic(b.t, b.st, "t")
	b.meta, b.l = rt.Meta, rt.Logs[StreamMain]
	slot, states, floor, _, err := b.st.RecoverChannel(b.c, rt.Logs)
	require.NoError(b.t, err)
	b.slot, b.states = slot, states
	require.Equal(b.t, b.floor, floor[StreamMain])
	b.st.FinishRecovery()
}

func (b *brim) left() int {
	return len(readLog(b.t, b.l, b.floor, b.l.Committed(), 256, 1<<20))
}

func TestFullDiskRefusesAndGoesOn(t *testing.T) {
	b := newBrim(t, 16<<20)
	require.True(t, b.st.spare.whole())
	require.EqualValues(t, 512<<10, b.st.spare.want)
	for round := range 3 {
		err := b.publish(1 << 20)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorIs(t, b.st.Full(), syscall.ENOSPC, "health tells")
		require.NoError(t, b.st.Failed())
		require.True(t, b.st.spare.whole(), "publishing takes nothing of the reserve")
		require.Greater(t, b.sent, 11000, "nearly all of the disk is used")
		b.settle()
		b.d.fill(0) // the last bytes go to others

		// What consuming needs comes out of the reserve.
		b.c.Paused = !b.c.Paused
		require.NoError(t, b.st.SaveChannelPaused(b.c))
		require.NoError(t, b.st.SaveDelays([]Delay{{Channel: b.c.ID, Pos: b.floor, Due: 1}}, 0))
		require.Equal(t, round > 0, b.st.spare.whole(), "the first delay makes a file")
		b.consume()
		require.False(t, b.warned("memory"), "the state stays in its file: %q", b.warns)
		b.accepts(100)
		require.True(t, b.st.spare.whole())
		require.NoError(t, b.st.Full())
		b.d.drain()
	}
}

// TestFullDiskRecoversByItself: nobody consumes, another program gives space back.
func TestFullDiskRecoversByItself(t *testing.T) {
	b := newBrim(t, 16<<20)
	b.d.fill(500 << 10)
	require.ErrorIs(t, b.publish(1<<20), syscall.ENOSPC)
	b.d.fill(0)
	for range 5 {
		require.ErrorIs(t, b.publish(1), syscall.ENOSPC)
		b.st.CheckSpace()
		require.Error(t, b.st.Full())
	}
	b.states[0].Ensure(b.floor+5*stateMessages, 1)
	require.False(t, b.st.spare.whole())
	b.d.drain()
	b.st.CheckSpace()
	require.NoError(t, b.st.Full())
	require.True(t, b.st.spare.whole())
	require.Eventually(t, func() bool { return b.publish(1) == nil }, time.Second, time.Millisecond)
	require.Equal(t, b.sent, b.left())
}

// TestStartOnFullDisk: not a byte is free, and there may be no reserve left either.
func TestStartOnFullDisk(t *testing.T) {
	for _, reserve := range []bool{true, false} {
		t.Run(fmt.Sprintf("reserve %v", reserve), func(t *testing.T) {
			b := newBrim(t, 16<<20)
			require.ErrorIs(t, b.publish(1<<20), syscall.ENOSPC)
			if !reserve {
				for b.st.spare.give() {
				}
			}
			b.d.fill(0)
			for range 3 {
				b.restart()
				require.Equal(t, b.sent, b.left(), "nothing is lost")
				b.d.fill(0)
			}
			require.True(t, b.warned("used as it is"))
			b.consume()
			require.Zero(t, b.left())
			b.restart()
			require.Zero(t, b.left(), "what was finished is not there again")
			b.accepts(100)
			b.restart()
			require.Equal(t, 100, b.left())
		})
	}
}

// TestStartOnFullDiskWithTornManifest: the tail that is not written anew must not come back.
func TestStartOnFullDiskWithTornManifest(t *testing.T) {
	b := newBrim(t, 16<<20)
	require.NoError(t, b.publish(100))
	b.d.Disk.(*HeapDisk).mu.Lock()
	raw := b.d.Disk.(*HeapDisk).files[ManifestName]
	b.d.Disk.(*HeapDisk).mu.Unlock()
	b.st.man.mu.Lock()
	off := b.st.man.off
	b.st.man.mu.Unlock()
	b.st.Abandon()
	raw.buf = append(raw.buf[:off], make([]byte, 70<<10)...)
	for i := range raw.buf[off:] {
		raw.buf[off+int64(i)] = byte(i + 1)
	}
	require.NoError(t, b.d.charge(ManifestName, 0, int64(len(raw.buf)), false))
	for b.d.Allocate(spareName, 0) != nil {
	}
	b.d.fill(0)
	b.restart()
	require.Equal(t, 100, b.left())
	require.True(t, b.warned("used as it is"), "%q", b.warns)
	raw.mu.Lock()
	clean := bytes.Equal(make([]byte, 60<<10), raw.buf[off+10<<10:off+70<<10])
	raw.mu.Unlock()
	require.True(t, clean, "only records of this life stand behind the tail")
	b.c.Paused = true
	require.NoError(t, b.st.SaveChannelPaused(b.c))
	b.restart()
	require.True(t, topic(t, b.st, "t").Meta.Channels[0].Paused)
	require.Zero(t, b.st.Recovered().LostBytes)
}

// TestStateWithoutRoomAtStart: the holes of a state file cannot be filled, what it says counts all the same.
func TestStateWithoutRoomAtStart(t *testing.T) {
	b := newBrim(t, 16<<20)
	require.NoError(t, b.publish(1000))
	b.states[0].Ensure(b.floor, 500)
	for p := b.floor + 10; p < b.floor+400; p++ {
		b.states[0].Finish(p)
	}
	b.st.Abandon()
	name := stateName(b.c.ID, StreamMain)
	b.d.qmu.Lock()
	delete(b.d.used, name) // the file is sparse: somebody copied the directory
	b.d.qmu.Unlock()
	require.NoError(t, b.d.Allocate(spareName, 0))
	b.d.fill(0)
	b.restart()
	require.True(t, b.warned("goes to memory"), "%q", b.warns)
	require.Equal(t, b.floor, b.states[0].Unfinished(b.floor, b.floor+10), "unfinished stays unfinished")
	require.Equal(t, b.floor+400, b.states[0].Unfinished(b.floor+10, b.floor+500))
	require.Equal(t, b.floor+400, b.states[0].Highest(b.floor, b.floor+1000))
	b.consumeRest()
}

func (b *brim) consumeRest() {
	end := b.l.Committed()
	b.states[0].Ensure(b.floor, int(end-b.floor))
	for p := b.floor; p < end; p++ {
		b.states[0].Finish(p)
	}
	require.Equal(b.t, end, b.states[0].Unfinished(b.floor, end))
}

// noFallocate is a file system that cannot allocate ahead.
type noFallocate struct{ *HeapDisk }

func (d noFallocate) Allocate(name string, n int64) error {
	return &os.PathError{Op: "fallocate", Path: name, Err: syscall.EOPNOTSUPP}
}

func TestRefusesFileSystemWithoutAllocation(t *testing.T) {
	for _, reserve := range []int64{0, -1} {
		_, err := Open(noFallocate{NewHeapDisk()}, Options{DiskReserve: reserve})
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "cannot allocate space ahead")
	}
}

func TestSpareOnRealDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, spareName)
	size := func() int64 {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.GreaterOrEqual(t, info.Sys().(*syscall.Stat_t).Blocks*512, info.Size(), "its blocks are there")
		return info.Size()
	}
	o := small
	o.DiskReserve = 1 << 20
	st := open(t, NewRealDisk(dir), o)
	require.EqualValues(t, 1<<20, size())
	require.True(t, st.spare.give())
	require.EqualValues(t, 7<<17, size())
	require.False(t, st.spare.whole())
	st.CheckSpace()
	require.EqualValues(t, 1<<20, size())
	require.NoError(t, st.spare.restore(64<<10))
	require.EqualValues(t, 1<<20, size())
	for st.spare.give() {
	}
	require.Zero(t, size())
	full := 0
	require.NoError(t, st.WithSpare(func() error { full++; return nil }))
	require.ErrorIs(t, st.WithSpare(func() error { full++; return syscall.ENOSPC }), syscall.ENOSPC)
	require.Equal(t, 2, full)
	st = reopen(t, st)
	require.EqualValues(t, 1<<20, size())
	st.Abandon()
	o.DiskReserve = -1
	open(t, NewRealDisk(dir), o)
	require.NoFileExists(t, path)
}
