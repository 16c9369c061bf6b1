//go:build linux

package fanout

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/mmapq"
)

// forget has the kernel drop what it keeps of the segments in dir in memory.
func forget(t *testing.T, dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	for _, name := range names {
		f, err := os.Open(name)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		require.NoError(t, f.Close())
	}
}

// A consumer of a backlog that is not in memory parks; it is woken when the next block is there, and gets everything once and in order, what was
// put back included.
func TestColdBacklog(t *testing.T) {
	dir := t.TempDir()
	disk := mmapq.NewRealDisk(dir)
	store := mmapq.Options{SegmentMax: 1 << 20}
	r := openRig(t, disk, store, Options{})
	r.sub(t, "t", "c", 0, ConsumerOptions{}).Close(Now())
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("%d-%08192d", i, 0))
		r.pub(t, "t", want[i])
	}
	c := r.sub(t, "t", "c", 10, ConsumerOptions{})
	for _, d := range c.takeAll(t)[:10] {
		require.NoError(t, c.Req([]byte(d.id), 0, Now()))
	}
	c.Close(Now())
	require.NoError(t, r.Close())
	forget(t, dir)
	r = openRig(t, disk, store, Options{})
	defer r.Close()
	c = r.sub(t, "t", "c", 1000, ConsumerOptions{})
	got, waits := map[string]int{}, 0
	for len(got) < len(want) {
		for _, d := range c.takeAll(t) {
			got[d.body]++
			require.NoError(t, c.Fin([]byte(d.id), Now()))
		}
		if len(got) == len(want) || c.Channel().Park(0) {
			continue
		}
		waits++
		select {
		case ch := <-r.sink.wake:
			require.Same(t, c.Channel(), ch)
		case <-time.After(10 * time.Second):
			t.Fatalf("not woken; %d of %d messages", len(got), len(want))
		}
	}
	for _, body := range want {
		require.Equal(t, 1, got[body])
	}
	t.Logf("%d waits", waits)
}
