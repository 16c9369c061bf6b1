package mmapq

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Delays of requeued messages are records in files of their own, appended before the REQ's batch is answered and read back at start: without
// them a message would come back before its time after a kill. A record counts only while the state of its message still shows the same number
// of deliveries, so nothing has to be taken back when the message is delivered or finished. Records that fall due at about the same time share
// a file (delayLanes), and a file is removed when the last of them is past: what is kept follows from what waits, not from what was ever
// requeued. Files are numbered and carry no header. 32 bytes a record, little-endian:
//
//	0   8   channel id
//	8   8   position, stream in bit 52
//	16  8   due time, ns since 1970
//	24  2   deliveries so far
//	26  2   zero
//	28  4   checksum of the 28 bytes before
const delaySize = 32

// Delay is one record.
type Delay struct {
	Channel  uint64
	Stream   Stream
	Pos      Pos
	Due      int64 // ns since 1970
	Attempts uint16
}

// delayLanes is how many files are written to at a time: lane i takes delays below 4^i seconds and begins a new file after that time, so a
// file lives at most about twice as long as its longest delay; the last lane takes what is left.
const delayLanes = 8

// delayFiles are the lanes and the files that wait for their end.
type delayFiles struct {
	st      *Store
	lanes   [delayLanes]delayLane
	gen     atomic.Uint32 // of the next file
	failure atomic.Pointer[error]

	// syncing is held while a file is synced, closed or exchanged; before a lane's mu. Loops never take it.
	syncing sync.Mutex
	old     []oldDelays // guarded by syncing
}

type oldDelays struct {
	gen  uint32
	last int64 // the latest due time in it
	sync bool  // of an earlier process, which may not have synced it
}

// delayLane is one file that is written to. Its mutex is held for one write, or for exchanging the file.
type delayLane struct {
	mu    sync.Mutex
	f     File // nil until the lane's first record
	gen   uint32
	off   int64
	last  int64 // the latest due time in it
	began int64 // when its first record came
	dirty bool
	buf   []byte
}

func delayName(gen uint32) string { return fmt.Sprintf("nsqloop.%08x.delays", gen) }

// laneSpan is the longest delay of a lane but the last.
func laneSpan(i int) int64 { return int64(time.Second) << (2 * i) }

func laneOf(delay int64) int {
	i := 0
	for i < delayLanes-1 && delay >= laneSpan(i) {
		i++
	}
	return i
}

func (d Delay) encode(dst []byte) []byte {
	at := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, d.Channel)
	dst = le.AppendUint64(dst, uint64(d.Pos)|uint64(d.Stream)*idStreamBit)
	dst = le.AppendUint64(dst, uint64(d.Due))
	dst = le.AppendUint32(dst, uint32(d.Attempts))
	return le.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

func decodeDelay(p []byte) (Delay, bool) {
	le := binary.LittleEndian
	if crc32.Checksum(p[:28], castagnoli) != le.Uint32(p[28:]) {
		return Delay{}, false
	}
	at := le.Uint64(p[8:])
	return Delay{
		Channel: le.Uint64(p), Stream: Stream(at >> 52 & 1), Pos: Pos(at & posMask), Due: int64(le.Uint64(p[16:])), Attempts: le.Uint16(p[24:]),
	}, true
}

// SaveDelays records that messages wait. They survive SIGKILL from now on. One system call per lane among them: loops collect the REQs of one
// read. now is the clock that Due is on. On error the delays hold until the next restart only.
func (st *Store) SaveDelays(list []Delay, now int64) error {
	var lanes [delayLanes]bool
	for _, d := range list {
		lanes[laneOf(d.Due-now)] = true
	}
	var err error
	for i, used := range lanes {
		if used {
			err = errors.Join(err, st.delays.append(i, list, now))
		}
	}
	return err
}

// append writes those of list that belong to lane i.
func (y *delayFiles) append(i int, list []Delay, now int64) error {
	l := &y.lanes[i]
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := y.failure.Load(); err != nil {
		return *err
	}
	if l.f == nil { // once in a process and lane: later files are made by TurnDelays
		gen := y.gen.Add(1) - 1
		f, err := y.st.disk.OpenFile(delayName(gen), true)
		if err != nil {
			return err
		}
		l.use(f, gen)
		y.st.newFiles.Store(true)
	}
	l.buf = l.buf[:0]
	last := l.last
	for _, d := range list {
		if laneOf(d.Due-now) == i {
			l.buf = d.encode(l.buf)
			last = max(last, d.Due)
		}
	}
	if _, err := l.f.WriteAt(l.buf, l.off); err != nil {
		return err // what a short write left is overwritten by the next record
	}
	AtPoint(PointDelay)
	if l.off == 0 {
		l.began = now
	}
	l.off += int64(len(l.buf))
	l.last, l.dirty = last, true
	return nil
}

// use makes the empty file f the one that is written to. Caller holds mu.
func (l *delayLane) use(f File, gen uint32) {
	l.f, l.gen, l.off, l.last, l.dirty = f, gen, 0, math.MinInt64, false
}

func (y *delayFiles) sync() error {
	y.syncing.Lock()
	defer y.syncing.Unlock()
	for i := range y.lanes {
		l := &y.lanes[i]
		l.mu.Lock()
		f, dirty := l.f, l.dirty
		l.dirty = false
		l.mu.Unlock()
		if err := y.failure.Load(); err != nil {
			return *err
		}
		if dirty {
			if err := f.Sync(); err != nil {
				return y.fail(err)
			}
		}
	}
	return nil
}

// fail remembers a failed sync: nothing more is written.
func (y *delayFiles) fail(err error) error {
	err = fmt.Errorf("delays: %w", err)
	y.failure.CompareAndSwap(nil, &err)
	return err
}

// recover reads every record of every file that is not past at now.
func (y *delayFiles) recover(names []string, now int64) (map[uint64][]Delay, error) {
	found := map[uint64][]Delay{}
	for _, gen := range delayNumbers(names) {
		y.gen.Store(max(y.gen.Load(), gen+1))
		last := int64(math.MinInt64)
		err := y.read(gen, func(raw []byte) {
			d, ok := decodeDelay(raw)
			if !ok {
				return // each record stands for itself
			}
			if last = max(last, d.Due); d.Due > now {
				found[d.Channel] = append(found[d.Channel], d)
			}
		})
		if err != nil {
			return nil, err
		}
		y.old = append(y.old, oldDelays{gen, last, true})
	}
	for _, list := range found {
		slices.SortFunc(list, func(a, b Delay) int {
			return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Pos, b.Pos), cmp.Compare(a.Attempts, b.Attempts), cmp.Compare(a.Due, b.Due))
		})
	}
	return found, nil
}

// delayNumbers returns the numbers of those of names that are delay files, ascending.
func delayNumbers(names []string) (gens []uint32) {
	for _, name := range names {
		var gen uint32
		if n, err := fmt.Sscanf(name, "nsqloop.%08x.delays", &gen); err == nil && n == 1 && name == delayName(gen) {
			gens = append(gens, gen)
		}
	}
	slices.Sort(gens)
	return gens
}

// read calls f for every record of one file.
func (y *delayFiles) read(gen uint32, f func(raw []byte)) (err error) {
	file, err := y.st.disk.OpenFile(delayName(gen), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buf := make([]byte, 1<<16)
	for off := int64(0); ; {
		n, err := file.ReadAt(buf, off)
		for p := buf[:n]; len(p) >= delaySize; p = p[delaySize:] {
			f(p[:delaySize])
		}
		off += int64(n / delaySize * delaySize)
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Delays returns the recorded delays of a channel that were not past at start, by stream, position, deliveries and due time: among those of one
// message with as many deliveries as its state shows the last counts. Called once per channel at start.
func (st *Store) Delays(channel uint64) []Delay { return st.foundDelays[channel] }

// TurnDelays begins new files where it is time and removes those that are past at now. Called about once a second by the reclaimer; no loop
// waits for it longer than for an exchange of two pointers.
func (st *Store) TurnDelays(now int64) error {
	y := st.delays
	y.syncing.Lock()
	defer y.syncing.Unlock()
	for i := range y.lanes {
		if err := y.turn(&y.lanes[i], laneSpan(i), now); err != nil {
			return err
		}
	}
	err := y.syncFound(now)
	y.old = slices.DeleteFunc(y.old, func(o oldDelays) bool {
		if err != nil || o.last > now {
			return false
		}
		AtPoint(PointDelaysPast)
		if err = st.disk.Remove(delayName(o.gen)); isNotExist(err) {
			err = nil
		}
		return err == nil
	})
	return err
}

// syncFound syncs what an earlier process left and still counts. Caller holds syncing.
func (y *delayFiles) syncFound(now int64) error {
	for i := range y.old {
		o := &y.old[i]
		if !o.sync || o.last <= now {
			continue
		}
		f, err := y.st.disk.OpenFile(delayName(o.gen), false)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err // as much is safe as was at the start
		}
		o.sync = false
	}
	return nil
}

// turn gives l a new file when the first record of its file is older than span. Caller holds syncing.
func (y *delayFiles) turn(l *delayLane, span, now int64) error {
	l.mu.Lock()
	young := l.off == 0 || now-l.began < span
	l.mu.Unlock()
	if young || y.failure.Load() != nil {
		return nil
	}
	gen := y.gen.Add(1) - 1
	f, err := y.st.disk.OpenFile(delayName(gen), true)
	if err != nil {
		return err // goes on with the file that it has
	}
	y.st.newFiles.Store(true)
	AtPoint(PointDelaysTurn)
	l.mu.Lock()
	was, dirty := l.f, l.dirty
	y.old = append(y.old, oldDelays{gen: l.gen, last: l.last})
	l.use(f, gen)
	l.mu.Unlock()
	if dirty {
		if err = was.Sync(); err != nil {
			err = y.fail(err)
			y.st.fail(fmt.Errorf("sync: %w", err))
		}
	}
	return errors.Join(err, was.Close())
}

func (y *delayFiles) close() error {
	y.syncing.Lock()
	defer y.syncing.Unlock()
	err := ErrExiting
	y.failure.CompareAndSwap(nil, &err)
	var errs error
	for i := range y.lanes {
		l := &y.lanes[i]
		l.mu.Lock()
		if l.f != nil {
			errs = errors.Join(errs, l.f.Close())
			l.f, l.dirty = nil, false
		}
		l.mu.Unlock()
	}
	return errs
}
