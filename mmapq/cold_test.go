package mmapq

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// coldDisk is a heap disk whose segments are not in memory when they are opened; reading a page of one brings it there.
type coldDisk struct {
	*HeapDisk
	mu    sync.Mutex
	pages map[string]map[int]bool // what was read, by file
	bad   map[string]map[int]bool // pages that cannot be
	noFD  bool
	reads int
}

func newColdDisk() *coldDisk {
	return &coldDisk{HeapDisk: NewHeapDisk(), pages: map[string]map[int]bool{}, bad: map[string]map[int]bool{}}
}

func (d *coldDisk) OpenMapped(name string) (*Mapping, error) {
	m, err := d.HeapDisk.OpenMapped(name)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pages[name] = map[int]bool{}
	m.resident = func(off, n int) bool { return d.resident(name, off, n) }
	return m, nil
}

func (d *coldDisk) resident(name string, off, n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := off / 4096; p*4096 < off+n; p++ {
		if !d.pages[name][p] {
			return false
		}
	}
	return true
}

var errNoFD = errors.New("too many open files")

func (d *coldDisk) OpenFile(name string, create bool) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.noFD && strings.HasSuffix(name, ".seg") {
		return nil, errNoFD
	}
	f, err := d.HeapDisk.OpenFile(name, create)
	if err != nil {
		return nil, err
	}
	return &coldFile{f, d, name}, nil
}

type coldFile struct {
	File
	d    *coldDisk
	name string
}

func (f *coldFile) ReadAt(p []byte, off int64) (int, error) {
	if f.d.pages[f.name] != nil {
		f.d.mu.Lock()
		defer f.d.mu.Unlock()
		f.d.reads++
		for at := int(off) / 4096; at*4096 < int(off)+len(p); at++ {
			if f.d.bad[f.name][at] {
				return 0, errPlanted
			}
		}
		for at := int(off) / 4096; at*4096 < int(off)+len(p); at++ {
			f.d.pages[f.name][at] = true
		}
	}
	return f.File.ReadAt(p, off)
}

// readCold reads l as a channel does that must not wait. It checks that no run is given out whose bytes are not in memory.
func readCold(t *testing.T, l *Log, d *coldDisk, maxN int) (list []message, fetches int) {
	limit := l.Committed()
	began := time.Now()
	for p := Pos(0); p < limit; {
		now := time.Now().UnixNano()
		r, next, cold := l.RunWarm(p, limit, maxN, 64<<10, now)
		if cold {
			require.Zero(t, r.N)
			done := make(chan struct{})
			l.Fetch(next, limit, now, func() { close(done) })
			<-done
			fetches++
			require.Less(t, time.Since(began), time.Minute)
			continue
		}
		require.Greater(t, next, p)
		p = next
		if r.N == 0 {
			continue
		}
		if name := slotName(r.seg.slot.id); r.seg.slot.m.resident != nil && !d.noFD {
			from := int(r.seg.offset(r.index))
			require.True(t, d.resident(name, from, len(r.Bytes)), "frames in memory")
			require.True(t, d.resident(name, r.seg.entryAt(r.index+uint32(r.N)-1), r.N*entrySize), "entries in memory")
		}
		for i := range r.N {
			list = append(list, message{r.First + Pos(i), string(r.Frame(i)[FrameHeader:])})
		}
		r.Release()
	}
	l.st.fetch.wg.Wait() // what is read ahead
	requirePins(t, l)
	return list, fetches
}

// coldLog is a log of several segments that was written in an earlier life.
func coldLog(t *testing.T, o Options) (*coldDisk, *Store, *Log, []message) {
	d := newColdDisk()
	st := open(t, d, o)
	_, logs := newTopic(t, st, "t")
	for i := range 60 {
		appendAll(t, logs[StreamMain], makeBodies(1, i*50, 50, 10+i*20))
		if i%20 == 5 {
			appendAll(t, logs[StreamMain], makeBodies(2, i, 1, 300<<10)) // larger than a block
		}
	}
	want := readAll(t, logs[StreamMain])
	require.NoError(t, st.Close())
	st = open(t, d, o)
	return d, st, topic(t, st, "t").Logs[StreamMain], want
}

func TestColdReaders(t *testing.T) {
	for _, o := range []Options{small, {SegmentMax: 4 << 20, SyncTimeout: time.Hour}} {
		for _, maxN := range []int{1, 256} {
			t.Run(fmt.Sprintf("segments of %d, runs of %d", o.SegmentMax, maxN), func(t *testing.T) {
				d, st, l, want := coldLog(t, o)
				got, fetches := readCold(t, l, d, maxN)
				require.Equal(t, want, got)
				require.NotZero(t, fetches)
				require.Greater(t, st.fetch.reads.Load(), uint64(fetches), "blocks are read ahead")
				reads := st.fetch.reads.Load()
				got, fetches = readCold(t, l, d, maxN)
				require.Equal(t, want, got)
				require.Zero(t, fetches, "what is in memory is not read again")
				require.Equal(t, reads, st.fetch.reads.Load())
			})
		}
	}
}

// TestColdReadersTogether: many channels at different places.
func TestColdReadersTogether(t *testing.T) {
	d, _, l, want := coldLog(t, small)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := countCold(l); got != len(want) {
				t.Errorf("%d of %d messages", got, len(want))
			}
		})
	}
	wg.Wait()
	l.st.fetch.wg.Wait()
	require.NotZero(t, d.reads)
	requirePins(t, l)
}

func countCold(l *Log) (n int) {
	for p, limit := Pos(0), l.Committed(); p < limit; {
		now := time.Now().UnixNano()
		r, next, cold := l.RunWarm(p, limit, 64, 64<<10, now)
		if cold {
			done := make(chan struct{})
			l.Fetch(next, limit, now, func() { close(done) })
			<-done
			continue
		}
		n += r.N
		r.Release()
		p = next
	}
	return n
}

// TestColdDamage: what fails its check, and what the disk does not give, is left out and counted; the rest is delivered.
func TestColdDamage(t *testing.T) {
	d, st, l, want := coldLog(t, small)
	segs := *l.segs.Load()
	s := segs[1]
	s.mem[s.offset(7)+FrameHeader+3] ^= 1 // message 7 of the second segment
	bad := segs[2]
	page := int(bad.offset(20)) / 4096
	d.bad[slotName(bad.slot.id)] = map[int]bool{page: true}
	lost := map[Pos]bool{s.base + 7: true}
	for i := range bad.count {
		from := int(bad.offset(i))
		if to := from + len(bad.frame(i)); from < (page+1)*4096 && to > page*4096 {
			lost[bad.base+Pos(i)] = true
		}
	}
	require.Greater(t, len(lost), 2)
	got, _ := readCold(t, l, d, 256)
	for _, m := range want {
		if lost[m.pos] {
			continue
		}
		require.NotEmpty(t, got)
		require.Equal(t, m, got[0])
		got = got[1:]
	}
	require.Empty(t, got)
	require.EqualValues(t, len(lost), st.Recovered().Damaged)
}

// TestColdWithoutDescriptor: readers go on through the mapping.
func TestColdWithoutDescriptor(t *testing.T) {
	d, _, l, want := coldLog(t, small)
	d.noFD = true
	got, _ := readCold(t, l, d, 256)
	require.Equal(t, want, got)
}

// TestCloseWhileReading: what is queued is let go.
func TestCloseWhileReading(t *testing.T) {
	_, st, l, _ := coldLog(t, small)
	now := time.Now().UnixNano()
	for range 100 {
		r, next, cold := l.RunWarm(0, l.Committed(), 1, 1, now)
		if !cold {
			r.Release()
			break
		}
		l.Fetch(next, l.Committed(), now, func() {})
	}
	st.Abandon()
	requirePins(t, l)
	l.Fetch(0, l.Committed(), now, func() { t.Error("after the end") })
	requirePins(t, l)
}

func TestHeat(t *testing.T) {
	const s = int64(time.Second)
	var h heat
	require.False(t, h.holds(0, 100*s))
	h.touch(0, 100*s)
	require.True(t, h.holds(0, 100*s))
	require.True(t, h.holds(0, 109*s))
	require.False(t, h.holds(0, 110*s))
	h.touch(10, 103*s)
	h.touch(20, 106*s)
	require.True(t, h.holds(0, 106*s), "of the turn before")
	h.touch(30, 112*s)
	require.False(t, h.holds(19, 112*s))
	require.True(t, h.holds(20, 112*s))
	h.touch(40, 200*s)
	require.False(t, h.holds(39, 200*s))
	require.True(t, h.holds(40, 200*s))
	require.False(t, h.holds(40, 150*s), "the clock was set back")
}
