package mmapq

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// ManifestName is the file whose presence says that a data path is ours.
const ManifestName = "nsqloop.manifest"

const manifestTemp = ManifestName + ".tmp"

// The manifest is the one file that holds identity: which topics and channels exist, which file belongs to which segment of which log, what
// was dropped. It is append-only and every record is checked; a valid prefix is always a consistent state. Little-endian:
//
//	header   8 magic "NSQLOOPM", 2 format version, 2 zero, 4 incompatible bits, 4 compatible bits, 8 salt, 4 checksum of the 28 bytes before
//	record   4 length of payload, 4 checksum (start value from salt and record number), 1 kind, payload
//
// The salt is new for every file, so nothing of an older file that reappears behind a torn tail passes. At each start, and when it has grown
// to several times its live content, the file is written anew: temporary file, sync, rename, directory sync.
const (
	manifestHeader = 32
	recordHeader   = 9
	recordMax      = 4096

	// Blocks are allocated ahead, so that on a full disk what frees space can be recorded also when the spare is gone.
	manifestAhead = 256 << 10
)

var manifestMagic = [8]byte{'N', 'S', 'Q', 'L', 'O', 'O', 'P', 'M'}

// Record kinds. Unknown kinds of a newer compatible version are kept out of the model and reported.
const (
	recTopic         = 1  // topic created: id, name, first main base, first deferred base
	recTopicGone     = 2  // topic id
	recTopicState    = 3  // topic id, flags (paused, held), held main, held deferred
	recChannel       = 4  // channel id, topic id, table slot, start main, start deferred, name
	recChannelGone   = 5  // channel id
	recChannelPaused = 6  // channel id, flag
	recSegment       = 7  // file number, topic id, stream, flag (compacted), segment number, salt, file size
	recSegmentFree   = 8  // file number, end of the segment's positions (0 = it had none)
	recDead          = 9  // topic id, stream, from, to
	recFloor         = 10 // position floor: no new topic may start below
	recClock         = 11 // lead of the clock of due times over the time since the boot (ns), id of the boot
)

// record is one decoded manifest record; which fields count depends on kind.
type record struct {
	kind   byte
	id     uint64 // topic, channel
	topic  uint64 // owner of a channel or segment
	slot   uint32 // file number, table slot
	stream Stream
	flags  uint8
	a, b   uint64 // positions, or segment number and salt
	size   uint64
	name   string
}

func (r record) encode(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, r.kind)
	dst = le.AppendUint64(dst, r.id)
	dst = le.AppendUint64(dst, r.topic)
	dst = le.AppendUint32(dst, r.slot)
	dst = append(dst, byte(r.stream), r.flags)
	dst = le.AppendUint64(dst, r.a)
	dst = le.AppendUint64(dst, r.b)
	dst = le.AppendUint64(dst, r.size)
	return append(dst, r.name...)
}

const recordFixed = 1 + 8 + 8 + 4 + 2 + 8 + 8 + 8

func decodeRecord(p []byte) (record, bool) {
	if len(p) < recordFixed {
		return record{}, false
	}
	le := binary.LittleEndian
	return record{
		kind: p[0], id: le.Uint64(p[1:]), topic: le.Uint64(p[9:]), slot: le.Uint32(p[17:]), stream: Stream(p[21]), flags: p[22],
		a: le.Uint64(p[23:]), b: le.Uint64(p[31:]), size: le.Uint64(p[39:]), name: string(p[recordFixed:]),
	}, true
}

// manifest is the open file. Its mutex mu orders records; holders of Log.mu or of broker locks may take it, never the other way round. Loops
// append records, so mu is not held during a sync; syncing orders those and rewrites, and is taken before mu.
type manifest struct {
	disk    *spare
	syncing sync.Mutex

	mu     sync.Mutex
	f      File
	salt   uint64
	number uint64 // of the next record
	off    int64
	ahead  int64 // bytes from the start for which blocks are allocated
	live   int64 // size after the last rewrite
	dirty  bool
	buf    []byte
	since  []record // appended since rewrite took the state down; nil while none is under way
	model  *model   // what all records so far add up to
	err    error    // a failed sync leaves an unknown file: nothing more is written
}

var errRecordTooLong = errors.New("name too long for the manifest")

func manifestSum(salt, number uint64, p []byte) uint32 {
	return crc32.Update(uint32(salt)^uint32(salt>>32)^uint32(number)*0x9e3779b1, castagnoli, p)
}

func frameRecord(dst []byte, salt, number uint64, r record) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = r.encode(dst)
	p := dst[at+8:]
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(p)))
	binary.LittleEndian.PutUint32(dst[at+4:], manifestSum(salt, number, p))
	return dst
}

// append adds records; they survive SIGKILL from now on, a power cut after the next sync.
func (m *manifest) append(recs ...record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.buf = m.buf[:0]
	for i, r := range recs {
		if recordFixed+len(r.name) > recordMax {
			return errRecordTooLong
		}
		m.buf = frameRecord(m.buf, m.salt, m.number+uint64(i), r)
	}
	m.reserve()
	AtPoint(PointManifest)
	if _, err := m.f.WriteAt(m.buf, m.off); err != nil {
		// What a short write left behind is overwritten by the next append, which starts at the same offset.
		return fmt.Errorf("manifest: %w", err)
	}
	AtPoint(PointManifestDone)
	m.off += int64(len(m.buf))
	m.number += uint64(len(recs))
	m.dirty = true
	for _, r := range recs {
		m.model.apply(r)
	}
	if m.since != nil {
		m.since = append(m.since, recs...)
	}
	return nil
}

// forgetDead keeps the ranges of gone, of which nothing is stored any more, out of what the next rewrite writes. In the file they do no harm.
func (m *manifest) forgetDead(topic uint64, stream Stream, gone []posRange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.model.topics[topic]
	if t == nil {
		return
	}
	var left []posRange // a new list: the log reads the old one without a lock
	for _, d := range t.dead[stream] {
		if !slices.ContainsFunc(gone, func(g posRange) bool { return g.from <= d.from && d.to <= g.to }) {
			left = append(left, d)
		}
	}
	t.dead[stream] = left
}

// reserve keeps blocks allocated for what is appended next. That it fails matters only when an append does. Caller holds mu.
func (m *manifest) reserve() {
	if m.off+int64(len(m.buf))+manifestAhead/2 <= m.ahead {
		return
	}
	if to := m.off + int64(len(m.buf)) + manifestAhead; m.f.Reserve(to) == nil {
		m.ahead = to
	}
}

// overgrown tells whether most of the file is history.
func (m *manifest) overgrown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err == nil && m.off > 1<<20 && m.off > 8*m.live
}

// sync makes all records so far durable. After a failure nothing is ever written again: the kernel reports a lost write only once.
func (m *manifest) sync() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	m.mu.Lock()
	f, dirty, err := m.f, m.dirty, m.err
	m.dirty = false
	m.mu.Unlock()
	if err != nil || !dirty {
		return err
	}
	if err := f.Sync(); err != nil {
		return m.fail(err)
	}
	return nil
}

func (m *manifest) fail(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = fmt.Errorf("manifest: %w", err)
	return m.err
}

// broken is why nothing can be written any more, or nil.
func (m *manifest) broken() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// has tells whether a channel is recorded.
func (m *manifest) has(channel uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.model.channels[channel] != nil
}

// floor returns the position below which no new topic may start, raised to at least p.
func (m *manifest) floor(p Pos) Pos {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.model.floor = max(m.model.floor, p)
	return m.model.floor
}

func (m *manifest) close() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.f == nil {
		return nil
	}
	err := m.f.Close()
	m.f, m.err = nil, ErrExiting
	return err
}

// rewrite replaces the file by the shortest one that adds up to the same state. Appends go on meanwhile: the lock is held for taking the state
// down, and for the exchange. After an error the old file is still in use, except when only the directory could not be synced: that counts as a
// failed sync.
func (m *manifest) rewrite() error {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	next := rewritten{salt: binary.LittleEndian.Uint64(seed[:])}
	m.mu.Lock()
	recs := m.model.records()
	m.since = []record{}
	m.mu.Unlock()
	next.buf = manifestHead(next.salt)
	next.add(recs)
	err := m.prepare(&next)
	var old File
	if err == nil {
		old, err = m.exchange(&next)
	}
	if err != nil {
		m.mu.Lock()
		m.since = nil
		m.mu.Unlock()
		return fmt.Errorf("manifest: %w", err)
	}
	if old != nil {
		err = old.Close()
	}
	if err2 := m.disk.SyncDir(); err2 != nil {
		// Which of the two files a power cut leaves behind is not known: what is promised in this one may not hold.
		err = m.fail(err2)
	}
	return err
}

// rewritten is a manifest that takes the place of another.
type rewritten struct {
	f      File
	salt   uint64
	number uint64
	buf    []byte // its content
}

func (n *rewritten) add(recs []record) {
	for _, r := range recs {
		n.buf = frameRecord(n.buf, n.salt, n.number, r)
		n.number++
	}
}

// resume goes on with the file as it was found: on a full disk a start cannot write it anew. What stands behind the last valid record is
// overwritten with zeros first, which needs no space, so that nothing of it passes for a record later.
func (m *manifest) resume(found manifestFound) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := m.disk.OpenFile(ManifestName, false)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	zeros := make([]byte, 64<<10)
	for off, end := found.end, found.end+found.torn; off < end && err == nil; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(int64(len(zeros)), end-off)], off)
	}
	if err == nil && found.torn > 0 {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("manifest: %w", errors.Join(err, f.Close()))
	}
	m.f, m.salt, m.number, m.off, m.live, m.dirty = f, found.salt, found.next, found.end, found.end, true
	return nil
}

// prepare writes the new file under a name of its own and makes it durable. It takes nothing from the spare.
func (m *manifest) prepare(next *rewritten) error {
	if err := m.disk.Remove(manifestTemp); err != nil && !isNotExist(err) {
		return err
	}
	f, err := m.disk.Disk.OpenFile(manifestTemp, true)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(next.buf, 0); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return m.discard(f, err)
	}
	next.f = &spareFile{f, m.disk}
	return nil
}

// discard gives up a prepared file because of err.
func (m *manifest) discard(f File, err error) error {
	err = errors.Join(err, f.Close())
	if gone := m.disk.Remove(manifestTemp); gone != nil && !isNotExist(gone) {
		err = errors.Join(err, gone)
	}
	return err
}

// exchange adds what was appended since the state was taken down and gives the new file the manifest's name. The records it adds were not synced
// in the old file either: syncing is held.
func (m *manifest) exchange(next *rewritten) (old File, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	live := int64(len(next.buf))
	if next.add(m.since); int64(len(next.buf)) > live {
		_, err = next.f.WriteAt(next.buf[live:], live)
	}
	AtPoint(PointRewrite)
	if err == nil {
		err = m.disk.Rename(manifestTemp, ManifestName)
	}
	AtPoint(PointRewritten)
	if err != nil {
		return nil, m.discard(next.f, err)
	}
	old = m.f
	m.dirty = len(m.since) > 0
	m.f, m.salt, m.number, m.off, m.ahead, m.live, m.since = next.f, next.salt, next.number, int64(len(next.buf)), 0, live, nil
	return old, nil
}

// manifestHead is the header of a manifest.
func manifestHead(salt uint64) []byte {
	le := binary.LittleEndian
	buf := make([]byte, manifestHeader, 64<<10)
	copy(buf, manifestMagic[:])
	le.PutUint16(buf[8:], formatVersion)
	le.PutUint64(buf[20:], salt)
	le.PutUint32(buf[28:], crc32.Checksum(buf[:28], castagnoli))
	return buf
}
