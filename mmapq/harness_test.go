package mmapq

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small are the options of most tests: segments of 64 KiB, so that a few hundred messages fill several.
var small = Options{SegmentMax: 64 << 10, PoolBytes: 1 << 20, SyncTimeout: time.Hour}

// onDisks runs f on the heap, where the race detector sees every access, and on files.
func onDisks(t *testing.T, f func(t *testing.T, d Disk)) {
	t.Run("heap", func(t *testing.T) { f(t, NewHeapDisk()) })
	t.Run("real", func(t *testing.T) { f(t, NewRealDisk(t.TempDir())) })
}

func open(t testing.TB, d Disk, o Options) *Store {
	t.Helper()
	st, err := Open(d, o)
	require.NoError(t, err)
	t.Cleanup(st.Abandon)
	return st
}

// reopen acts out a kill and the start after it.
func reopen(t testing.TB, st *Store) *Store {
	t.Helper()
	st.Abandon()
	return open(t, st.disk, st.opts)
}

func newTopic(t testing.TB, st *Store, name string) (TopicMeta, [2]*Log) {
	t.Helper()
	meta, logs, err := st.CreateTopic(name, false)
	require.NoError(t, err)
	return meta, logs
}

// topic returns the one recovered topic of that name.
func topic(t testing.TB, st *Store, name string) RecoveredTopic {
	t.Helper()
	var found []RecoveredTopic
	for _, rt := range st.Topics() {
		if rt.Meta.Name == name {
			found = append(found, rt)
		}
	}
	require.Len(t, found, 1, "topics named %s", name)
	return found[0]
}

// makeBody returns the n-th body of a writer: any other bytes in its place are recognised by bodyOf.
func makeBody(writer, n, size int) []byte {
	b := fmt.Appendf(make([]byte, 0, size+64), "%d-%d-%d|", writer, n, size)
	pad := rand.New(rand.NewPCG(uint64(writer), uint64(n)))
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, pad.Uint64())
	}
	return b[:max(size, strings.IndexByte(string(b), '|')+1)]
}

// bodyOf tells which body b is; ok is false when it is none, whole and unchanged.
func bodyOf(b []byte) (writer, n int, ok bool) {
	head, _, found := strings.Cut(string(b), "|")
	part := strings.Split(head, "-")
	if !found || len(part) != 3 {
		return 0, 0, false
	}
	var v [3]int
	for i, p := range part {
		x, err := strconv.Atoi(p)
		if err != nil || x < 0 || x > 1<<30 {
			return 0, 0, false
		}
		v[i] = x
	}
	return v[0], v[1], v[2] < 1<<25 && string(makeBody(v[0], v[1], v[2])) == string(b)
}

func makeBodies(writer, from, n, size int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = makeBody(writer, from+i, size)
	}
	return list
}

func appendAll(t testing.TB, l *Log, bodies [][]byte) Pos {
	t.Helper()
	end, err := l.AppendWait(bodies, time.Now().UnixNano(), 0)
	require.NoError(t, err)
	return end
}

type message struct {
	pos  Pos
	body string
}

// readLog walks l from p to limit as a channel does and checks what every reader relies on: positions ascend, the id in the frame is the
// position, frames parse and fill the run, and no run is longer than asked.
func readLog(t testing.TB, l *Log, p, limit Pos, maxN, maxBytes int) []message {
	t.Helper()
	var list []message
	for last := Pos(0); p < limit; {
		r, next := l.Run(p, limit, maxN, maxBytes)
		if next <= p {
			t.Fatalf("a reader at %d does not get on", p)
		}
		p = next
		if r.N == 0 {
			continue
		}
		if r.N > maxN || r.N > 1 && len(r.Bytes) > maxBytes || next != r.First+Pos(r.N) || r.First <= last && last > 0 {
			t.Fatalf("run of %d messages with %d bytes at %d, next %d, after %d", r.N, len(r.Bytes), r.First, next, last)
		}
		rest := r.Bytes
		for i := range r.N {
			last = r.First + Pos(i)
			n := frameLen(rest)
			if !bytes.Equal(rest[:n], r.Frame(i)) {
				t.Fatalf("frame %d of a run does not lie where the run has it", i)
			}
			checkFrame(t, rest[:n], IDPrefix(l.st.opts.Node, l.stream)|uint64(last))
			list = append(list, message{last, string(rest[FrameHeader:n])})
			rest = rest[n:]
		}
		if len(rest) > 0 {
			t.Fatalf("%d bytes behind the last message of a run", len(rest))
		}
		r.Release()
	}
	return list
}

func readAll(t testing.TB, l *Log) []message {
	t.Helper()
	return readLog(t, l, 0, l.Committed(), 256, 64<<10)
}

func checkFrame(t testing.TB, frame []byte, id uint64) {
	t.Helper()
	got, err := strconv.ParseUint(string(frame[frameID:FrameHeader]), 16, 64)
	if err != nil || got != id || binary.BigEndian.Uint32(frame[4:]) != frameTypeNumber || binary.BigEndian.Uint16(frame[frameAttempts:]) != 1 {
		t.Errorf("frame of %016x begins with %q", id, frame[:FrameHeader])
	}
}

// requirePins checks that nobody forgot to let go of a segment.
func requirePins(t testing.TB, l *Log) {
	t.Helper()
	for _, s := range *l.segs.Load() {
		require.Zero(t, s.pins.Load())
	}
}
