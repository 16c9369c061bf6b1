package mmapq

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// transcript is a disk that writes down what is asked of it, in order. Stores into mapped memory are no operations.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (y *transcript) before(op, name string) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.lines = append(y.lines, strings.TrimSpace(op+" "+name))
	return nil
}

// take returns what was asked since the last call. A start opens segments in any order; here they are sorted.
func (y *transcript) take() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	for i := 0; i < len(y.lines); i++ {
		from := i
		for i < len(y.lines) && strings.HasPrefix(y.lines[i], opOpen+" ") {
			i++
		}
		slices.Sort(y.lines[from:i])
	}
	text := strings.Join(y.lines, "\n") + "\n"
	y.lines = nil
	return text
}

// settle waits until no segment is being prepared: the order of what one goroutine asks is then the order of all.
func settle(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.asked {
		l.ready.Wait()
	}
}

// TestTranscripts compares the operations of the turning points of a data directory with golden files (-update writes them). A sync that is
// missing, or comes behind what needs it, is a difference here even if no other test notices.
func TestTranscripts(t *testing.T) {
	y := &transcript{}
	disk := NewHeapDisk()
	o := small
	o.PoolBytes = 64 << 10 // one segment is kept for reuse, the others are removed
	start := func() *Store {
		st, err := Open(&faultDisk{Disk: disk, before: y.before}, o)
		require.NoError(t, err)
		return st
	}
	golden := func(name string) {
		t.Helper()
		path := filepath.Join("testdata", "transcripts", name+".txt")
		got := y.take()
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			return
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), got, "%s differs; if that is meant, go test ./mmapq -run TestTranscripts -update", name)
	}
	st := start()
	golden("first start")
	st.man.floor(1 << 49) // positions begin here, not at the clock: windows of state files end at certain ones
	meta, logs := newTopic(t, st, "t")
	c, slot, states := newChannel(t, st, meta, "c", meta.Base)
	golden("topic and channel")
	l := logs[StreamMain]
	fill := func(n int) { // one by one: the next segment is asked for in the middle of this one
		for i := range n {
			appendAll(t, l, makeBodies(1, i, 1, 1000))
			settle(l)
		}
	}
	fill(1)
	golden("first message")
	states[0].Ensure(meta.Base[0], 1)
	states[0].Finish(meta.Base[0])
	slot.SetCursor(StreamMain, meta.Base[0]+1)
	states[0].MarkDirty()
	require.NoError(t, st.SaveDelays([]Delay{{Channel: c.ID, Pos: meta.Base[0], Due: 1 << 60, Attempts: 1}}, 0))
	st.sync.round()
	golden("finish, requeue and sync")
	st.sync.round()
	golden("sync of nothing new")
	fill(150)
	golden("roll")
	st.sync.round()
	golden("sync over a roll")
	require.Positive(t, l.Truncate(func(_, to Pos) bool { return to == l.Committed() }))
	golden("reclaim")
	fill(100)
	golden("roll into a segment that was used before")
	st.Abandon()
	y.take()
	st = start()
	rt := topic(t, st, "t")
	recoverChannels(t, st)
	golden("start after a kill")
	st.sync.round()
	golden("first sync after a kill")
	require.NoError(t, st.DeleteChannel(*rt.Meta.Channels[0], rt.Meta))
	golden("channel deleted")
	for _, l := range rt.Logs {
		l.Close()
	}
	require.NoError(t, st.DeleteTopic(rt.Meta, rt.Logs))
	for _, l := range rt.Logs {
		require.True(t, l.Remove())
	}
	golden("topic deleted")
	_, logs = newTopic(t, st, "u")
	appendAll(t, logs[StreamMain], makeBodies(1, 0, 1, 100))
	settle(logs[StreamMain])
	y.take()
	for _, l := range logs {
		l.Close()
	}
	require.NoError(t, st.Close())
	golden("clean stop")
	st = start()
	golden("start after a clean stop")
	st.Abandon()
}
