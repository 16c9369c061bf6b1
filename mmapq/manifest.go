package mmapq

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
	recSegment       = 7  // file number, topic id, stream, segment number, salt, file size
	recSegmentFree   = 8  // file number
	recDead          = 9  // topic id, stream, from, to
	recFloor         = 10 // position floor: no new topic may start below
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

// manifest is the open file. Its mutex orders records; holders of Log.mu or of broker locks may take it, never the other way round.
type manifest struct {
	disk Disk

	mu     sync.Mutex
	f      File
	salt   uint64
	number uint64 // of the next record
	off    int64
	live   int64 // size after the last rewrite
	dirty  bool
	buf    []byte
	model  *model // what all records so far add up to
	err    error  // a failed append leaves an unknown tail: nothing more is written
}

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
		m.buf = frameRecord(m.buf, m.salt, m.number+uint64(i), r)
	}
	if _, err := m.f.WriteAt(m.buf, m.off); err != nil {
		// What a short write left behind is overwritten by the next append, which starts at the same offset.
		return fmt.Errorf("manifest: %w", err)
	}
	m.off += int64(len(m.buf))
	m.number += uint64(len(recs))
	m.dirty = true
	for _, r := range recs {
		m.model.apply(r)
	}
	return nil
}

// overgrown tells whether most of the file is history.
func (m *manifest) overgrown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err == nil && m.off > 1<<20 && m.off > 8*m.live
}

// sync makes all records so far durable.
func (m *manifest) sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil || !m.dirty {
		return m.err
	}
	if err := m.f.Sync(); err != nil {
		m.err = fmt.Errorf("manifest: %w", err)
		return m.err
	}
	m.dirty = false
	return nil
}

func (m *manifest) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.f == nil {
		return nil
	}
	err := m.f.Close()
	m.f, m.err = nil, ErrExiting
	return err
}

// rewrite replaces the file by the shortest one that adds up to the same state. Appends wait meanwhile.
func (m *manifest) rewrite() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	salt := binary.LittleEndian.Uint64(seed[:])
	le := binary.LittleEndian
	buf := make([]byte, manifestHeader, 64<<10)
	copy(buf, manifestMagic[:])
	le.PutUint16(buf[8:], formatVersion)
	le.PutUint64(buf[20:], salt)
	le.PutUint32(buf[28:], crc32.Checksum(buf[:28], castagnoli))
	n := uint64(0)
	for _, r := range m.model.records() {
		buf = frameRecord(buf, salt, n, r)
		n++
	}
	if err := m.disk.Remove(manifestTemp); err != nil && !isNotExist(err) {
		return err
	}
	f, err := m.disk.OpenFile(manifestTemp, true)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(buf, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = m.disk.Rename(manifestTemp, ManifestName)
	}
	if err == nil {
		err = m.disk.SyncDir()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("manifest: %w", err), f.Close())
	}
	old := m.f
	m.f, m.salt, m.number, m.off, m.live, m.dirty = f, salt, n, int64(len(buf)), int64(len(buf)), false
	if old != nil {
		return old.Close()
	}
	return nil
}

// readManifest returns the records of the valid prefix. torn is the number of bytes behind it.
func readManifest(d Disk) (recs []record, torn int64, err error) {
	f, err := d.OpenFile(ManifestName, false)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	buf := make([]byte, size)
	if _, err := f.ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return parseManifest(buf)
}

func parseManifest(buf []byte) ([]record, int64, error) {
	le := binary.LittleEndian
	if len(buf) < manifestHeader || [8]byte(buf) != manifestMagic || crc32.Checksum(buf[:28], castagnoli) != le.Uint32(buf[28:]) {
		return nil, 0, fmt.Errorf("%s: header is damaged", ManifestName)
	}
	if v := le.Uint16(buf[8:]); v > formatVersion || le.Uint32(buf[12:])&^knownIncompatible != 0 {
		return nil, 0, fmt.Errorf("%s: format %d: %w", ManifestName, v, ErrNewerFormat)
	}
	salt := le.Uint64(buf[20:])
	var recs []record
	p := buf[manifestHeader:]
	for len(p) >= 8 {
		n := int(le.Uint32(p))
		if n < recordFixed || n > recordMax || n > len(p)-8 {
			break
		}
		if manifestSum(salt, uint64(len(recs)), p[8:8+n]) != le.Uint32(p[4:]) {
			break
		}
		r, ok := decodeRecord(p[8 : 8+n])
		if !ok {
			break
		}
		recs = append(recs, r)
		p = p[8+n:]
	}
	return recs, int64(len(p)), nil
}
