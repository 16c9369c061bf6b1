package mmapq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
)

// Delays of requeued messages are records in files of their own, appended by REQ before it takes effect and read back at start: without them
// a message would come back before its time after a kill. A record counts only while the state of its message still shows the same number of
// deliveries, so nothing has to be taken back when the message is delivered or finished. Files are numbered; a new one is begun at each start
// and when the current one is mostly history, and then holds what is still waiting. 32 bytes a record, little-endian:
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

type delayFile struct {
	st      *Store
	syncing sync.Mutex // held while a file is synced or closed; before mu

	mu    sync.Mutex
	f     File // nil until the first record of this generation
	gen   uint32
	old   []uint32 // earlier generations that still exist, ascending
	off   int64
	live  int64 // size after the last rotation
	dirty bool
	buf   []byte
	err   error // a failed sync: nothing more is written
}

func delayName(gen uint32) string { return fmt.Sprintf("nsqloop.%08x.delays", gen) }

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

// SaveDelay records that a message waits. It survives SIGKILL from now on. One system call: REQ with a delay is answered by nothing, so it
// must hold before the next command's answer goes out. On error the delay holds until the next restart only.
func (st *Store) SaveDelay(d Delay) error { return st.delays.append(d) }

func (y *delayFile) append(list ...Delay) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.err != nil {
		return y.err
	}
	if y.f == nil {
		f, err := y.st.disk.OpenFile(delayName(y.gen), true)
		if err != nil {
			return err
		}
		y.f, y.off = f, 0
		y.st.newFiles.Store(true)
	}
	y.buf = y.buf[:0]
	for _, d := range list {
		y.buf = d.encode(y.buf)
	}
	if _, err := y.f.WriteAt(y.buf, y.off); err != nil {
		return err // what a short write left is overwritten by the next record
	}
	AtPoint(PointDelay)
	y.off += int64(len(y.buf))
	y.dirty = true
	return nil
}

func (y *delayFile) sync() error {
	y.syncing.Lock()
	defer y.syncing.Unlock()
	y.mu.Lock()
	f, dirty, err := y.f, y.dirty, y.err
	y.dirty = false
	y.mu.Unlock()
	if err != nil || !dirty {
		return err
	}
	if err := f.Sync(); err != nil {
		return y.fail(err)
	}
	return nil
}

// recover reads every record of every generation, oldest first, and begins a new generation.
func (y *delayFile) recover(names []string) (map[uint64][]Delay, error) {
	for _, name := range names {
		var gen uint32
		if n, err := fmt.Sscanf(name, "nsqloop.%08x.delays", &gen); err == nil && n == 1 && name == delayName(gen) {
			y.old = append(y.old, gen)
		}
	}
	slices.Sort(y.old)
	found := map[uint64][]Delay{}
	for _, gen := range y.old {
		y.gen = gen + 1
		if err := y.read(gen, func(d Delay) { found[d.Channel] = append(found[d.Channel], d) }); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// read calls f for every valid record of one generation. A record that fails its check is passed by: each stands for itself.
func (y *delayFile) read(gen uint32, f func(Delay)) (err error) {
	file, err := y.st.disk.OpenFile(delayName(gen), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buf := make([]byte, 1<<16)
	for off := int64(0); ; {
		n, err := file.ReadAt(buf, off)
		for p := buf[:n]; len(p) >= delaySize; p = p[delaySize:] {
			if d, ok := decodeDelay(p); ok {
				f(d)
			}
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

// Delays returns the recorded delays of a channel, oldest first; for one message the last counts. Called once per channel at start.
func (st *Store) Delays(channel uint64) []Delay { return st.foundDelays[channel] }

// DelaysOvergrown tells that most of the current file is history: the caller begins a new generation with RotateDelays.
func (st *Store) DelaysOvergrown() bool {
	y := st.delays
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.err == nil && y.off > 1<<20 && y.off > 4*y.live
}

// RotateDelays begins a new file and puts what waiting returns into it. Records that come in meanwhile go there too. The generation before is
// kept until the next rotation, since a record that was written there may belong to a message that waiting did not see yet; older ones are
// removed.
func (st *Store) RotateDelays(waiting func() []Delay) error {
	y := st.delays
	gone, err := y.turn()
	AtPoint(PointDelaysRotate)
	if list := waiting(); err == nil && len(list) > 0 {
		err = y.append(list...)
	}
	if err == nil {
		err = y.sync()
	}
	y.mu.Lock()
	y.live = y.off
	y.mu.Unlock()
	if err != nil {
		return fmt.Errorf("delays: %w", err)
	}
	AtPoint(PointDelaysRotated)
	for _, gen := range gone {
		if err := st.disk.Remove(delayName(gen)); err != nil && !isNotExist(err) {
			return err
		}
	}
	return nil
}

// turn syncs and closes the current file; the next record begins a new one. It returns the generations that are not needed once the new file
// holds everything that waits.
func (y *delayFile) turn() (gone []uint32, err error) {
	y.syncing.Lock()
	defer y.syncing.Unlock()
	y.mu.Lock()
	f, dirty := y.f, y.dirty
	if f != nil {
		y.old = append(y.old, y.gen)
	}
	y.f, y.off, y.dirty, y.gen = nil, 0, false, y.gen+1
	gone = y.old[:max(0, len(y.old)-1)]
	y.old = y.old[len(gone):]
	y.mu.Unlock()
	if f == nil {
		return gone, nil
	}
	if dirty {
		if err = f.Sync(); err != nil {
			err = y.fail(err)
		}
	}
	return gone, errors.Join(err, f.Close())
}

func (y *delayFile) fail(err error) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.err = fmt.Errorf("delays: %w", err)
	return y.err
}

func (y *delayFile) close() error {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.f == nil {
		return nil
	}
	err := y.f.Close()
	y.f, y.dirty, y.err = nil, false, ErrExiting
	return err
}
