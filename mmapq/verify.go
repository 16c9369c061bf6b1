package mmapq

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
)

// Verified is what Verify found in a data directory.
type Verified struct {
	Records   int   // of the manifest
	TornBytes int64 // behind its last valid record: what a kill or a power cut leaves
	Topics    []VerifiedTopic
	Delays    int      // valid records of requeue delays
	Damage    []string // what is not as it was written, and had been promised
	Notes     []string // what is unusual and costs nothing
}

// VerifiedTopic is one topic, its two streams added up.
type VerifiedTopic struct {
	Name     string
	Segments int
	Messages int64 // whose check passes
	Damaged  int64 // that were promised to be on the disk and fail it
	Holes    int64 // that fail it and were never promised
	Channels []VerifiedChannel
}

// VerifiedChannel is where one channel stands, as the next start will see it.
type VerifiedChannel struct {
	Name     string
	Waiting  uint64 // not claimed yet
	Claimed  uint64 // claimed and not finished: they come again
	Finished uint64 // of those whose segments still exist
}

// Clean tells that nothing is damaged.
func (v *Verified) Clean() bool { return len(v.Damage) == 0 }

// Verify reads everything in the directory behind disk the way a start does, and every message besides, and changes nothing. The error is a
// file that cannot be read. No Store may have the directory open.
func Verify(disk Disk) (v *Verified, err error) {
	// A page that the disk cannot give is an error here, not the end of the process.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = faultError(r)
		}
	}()
	y := &verifier{st: newStore(disk, Options{}), found: &Verified{}}
	return y.found, y.run()
}

// verifier is one run of Verify. Its store has no goroutines and never loads.
type verifier struct {
	st    *Store
	found *Verified
	table []byte
	kept  []*Segment
}

func (y *verifier) damaged(format string, args ...any) {
	y.found.Damage = append(y.found.Damage, fmt.Sprintf(format, args...))
}

func (y *verifier) note(format string, args ...any) {
	y.found.Notes = append(y.found.Notes, fmt.Sprintf(format, args...))
}

func (y *verifier) run() (err error) {
	defer func() {
		for _, s := range y.kept {
			err = errors.Join(err, s.slot.m.Unmap())
		}
	}()
	known, err := y.manifest()
	if err != nil || !known {
		return err
	}
	if y.table, err = y.read(tableName); err != nil {
		return err
	}
	metas := make([]segmentMeta, 0, len(y.st.man.model.segments))
	for _, meta := range y.st.man.model.segments {
		metas = append(metas, meta)
	}
	slices.SortFunc(metas, func(a, b segmentMeta) int { return cmp.Compare(a.slot, b.slot) })
	topics := map[uint64]*VerifiedTopic{}
	for id, t := range y.st.man.model.topics {
		topics[id] = &VerifiedTopic{Name: t.Name}
	}
	byLog := map[logKey][]*Segment{}
	for _, meta := range metas {
		if t := topics[meta.topic]; t != nil { // else of a deleted topic: free
			s, err := y.segment(meta, t)
			if err != nil {
				return err
			}
			if s != nil {
				k := logKey{meta.topic, meta.stream}
				byLog[k] = append(byLog[k], s)
			}
		}
	}
	for id, t := range y.st.man.model.topics {
		if err := y.channels(t, topics[id], byLog); err != nil {
			return err
		}
		y.found.Topics = append(y.found.Topics, *topics[id])
	}
	slices.SortFunc(y.found.Topics, func(a, b VerifiedTopic) int { return cmp.Compare(a.Name, b.Name) })
	return y.rest()
}

// manifest reads the manifest into the model. False: there is none that can be read, and nothing else to look at.
func (y *verifier) manifest() (bool, error) {
	found, _, err := readManifest(y.st.disk)
	switch {
	case isNotExist(err):
		if err := y.st.refuseOrphans(); err != nil {
			y.damaged("%v", err)
		} else {
			y.note("no data of nsqloop is here")
		}
		return false, nil
	case errors.Is(err, errManifestHeader):
		y.damaged("%v", err)
		return false, nil
	case err != nil:
		return false, err
	}
	for _, r := range found.recs {
		y.st.man.model.apply(r)
	}
	if n := y.st.man.model.unknown; n > 0 {
		return false, fmt.Errorf("%s: %d records of a kind this version does not know: %w", ManifestName, n, ErrNewerFormat)
	}
	y.found.Records, y.found.TornBytes = len(found.recs), found.torn
	if found.lost > 0 {
		y.damaged("%s: %d bytes in front of its last valid record are damaged", ManifestName, found.lost)
	}
	return true, nil
}

// segment checks one segment file with every entry in it; nil: nothing of this life of the file was ever used.
func (y *verifier) segment(meta segmentMeta, t *VerifiedTopic) (*Segment, error) {
	name := slotName(meta.slot)
	m, err := y.st.disk.OpenMapped(name)
	switch {
	case isNotExist(err), errors.Is(err, errShortFile):
		y.note("%s is not there: it was never made safe", name)
		return nil, nil
	case err != nil:
		return nil, err
	case uint64(len(m.Mem)) < meta.size:
		y.damaged("%s has %d bytes instead of %d", name, len(m.Mem), meta.size)
		return nil, m.Unmap()
	}
	h, rebuilt, err := identify(m.Mem, meta)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, m.Unmap()))
	}
	if !h.of(meta) {
		if meta.compacted {
			y.damaged("%s: both copies of the header are damaged", name)
		}
		return nil, m.Unmap()
	}
	s := foundSegment(m, meta, h)
	y.kept = append(y.kept, s)
	if h.feature&featureCompacted != 0 {
		return y.compacted(s, t), nil
	}
	durable, limit, _ := s.marks()
	damaged := s.scan(durable, limit)
	bad := int64(0)
	for _, d := range s.damage {
		bad += int64(d.to - d.from)
	}
	t.Segments++
	t.Messages += int64(s.count) - bad
	t.Damaged += damaged
	t.Holes += bad + int64(max(durable, s.count)-s.count) - damaged
	if damaged > 0 {
		y.damaged("%s: %d messages of topic %s fail their check", name, damaged, t.Name)
	}
	if s.count == 0 {
		return nil, nil // a kill while its header was written leaves one copy of that, too
	}
	switch {
	case rebuilt:
		y.damaged("%s: both copies of the header are damaged; a start makes it anew from a message", name)
	case !headerCopiesAgree(m.Mem):
		y.damaged("%s: one copy of the header is damaged; the other one holds", name)
	}
	s.sealed.Store(true)
	return s, nil
}

// compacted checks a compacted segment: all of it was synced before it counted.
func (y *verifier) compacted(s *Segment, t *VerifiedTopic) *Segment {
	name := slotName(s.slot.id)
	if !y.st.readCompacted(s) {
		y.damaged("%s: both copies of what its header says of its entries are damaged", name)
		return nil
	}
	bad := int64(0)
	for i := range s.count {
		if p := s.position(i); !s.good(i) {
			s.addDamage(p, p+1)
			bad++
		}
	}
	t.Segments++
	t.Messages += int64(s.count) - bad
	t.Damaged += bad
	if bad > 0 {
		y.damaged("%s: %d messages of topic %s fail their check", name, bad, t.Name)
	}
	if !headerCopiesAgree(s.mem) {
		y.damaged("%s: one copy of the header is damaged; the other one holds", name)
	}
	return s
}

// withoutReplaced leaves out segments that a compacted one took the place of.
func (y *verifier) withoutReplaced(segs []*Segment, t *VerifiedTopic) []*Segment {
	kept, replaced := withoutReplaced(segs)
	for _, s := range replaced {
		t.Segments--
		t.Messages -= int64(s.count)
		for _, d := range s.damage {
			t.Messages += int64(d.to - d.from)
		}
	}
	return kept
}

// headerCopiesAgree tells whether both copies of the identity are whole.
func headerCopiesAgree(mem []byte) bool {
	for _, at := range [2]int{0, headerCopy} {
		var one [headerSize]byte
		copy(one[:], mem[at:at+headerCopy])
		if _, err := getHeader(one[:]); err != nil {
			return false
		}
	}
	return true
}

// channels finds out where each channel of a topic stands.
func (y *verifier) channels(meta *TopicMeta, t *VerifiedTopic, byLog map[logKey][]*Segment) error {
	var logs [2]*Log
	for i := range logs {
		logs[i] = y.st.newLog(meta, Stream(i), false)
		logs[i].adopt(y.withoutReplaced(byLog[logKey{meta.ID, Stream(i)}], t), meta.dead[i])
	}
	for _, c := range meta.Channels {
		found := VerifiedChannel{Name: c.Name}
		slot := y.slot(c)
		for i, l := range logs {
			floor, okF := slot.Floor(Stream(i))
			cursor, okC := slot.Cursor(Stream(i))
			if !okF || !okC {
				y.damaged("%s: the place of channel %s of topic %s is torn or damaged; the lower value counts", tableName, c.Name, t.Name)
			}
			floor = max(floor, c.Start[i])
			if err := y.state(c, l, floor, max(cursor, floor), &found); err != nil {
				return err
			}
		}
		t.Channels = append(t.Channels, found)
	}
	return nil
}

// slot is a channel's place in the table; one that never reached the disk is as new.
func (y *verifier) slot(c *ChannelMeta) *ChannelSlot {
	at := int(c.Slot) * tableSlot
	s := &ChannelSlot{mem: alignedBytes(tableSlot), index: c.Slot}
	if at+tableSlot <= len(y.table) {
		copy(s.mem, y.table[at:])
	}
	if s.id() != c.ID {
		y.note("%s has no place for channel %s: it begins where it was made", tableName, c.Name)
		s.init(c.Start)
	}
	return s
}

// state counts what one channel has of one stream.
func (y *verifier) state(c *ChannelMeta, l *Log, floor, cursor Pos, found *VerifiedChannel) (err error) {
	end := l.Committed()
	words, err := y.words(stateName(c.ID, l.stream), newState(y.st, "", c.Start[l.stream]).base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, words.close()) }()
	for p := Pos(0); p < min(cursor, end); {
		at, stop := l.Next(p, min(cursor, end))
		for ; at < stop; at++ {
			done := at < floor
			if !done {
				if done, err = words.finished(at); err != nil {
					return err
				}
			}
			if done {
				found.Finished++
			} else {
				found.Claimed++
			}
		}
		p = max(stop, p+1)
	}
	if cursor < end {
		found.Waiting += l.count(cursor, end) - l.DeadBetween(cursor, end)
	}
	return nil
}

// stateWords reads a state file window by window.
type stateWords struct {
	file   File // nil: there is none
	base   Pos
	buf    []byte
	window uint64 // which one buf holds, plus 1
}

func (y *verifier) words(name string, base Pos) (*stateWords, error) {
	f, err := y.st.disk.OpenFile(name, false)
	if isNotExist(err) {
		return &stateWords{}, nil
	}
	return &stateWords{file: f, base: base, buf: make([]byte, stateBytes)}, err
}

func (w *stateWords) finished(p Pos) (bool, error) {
	if w.file == nil || p < w.base {
		return false, nil
	}
	if at := uint64(p-w.base)>>stateShift + 1; at != w.window {
		clear(w.buf) // what lies behind the end was never stored
		if _, err := w.file.ReadAt(w.buf, int64(at-1)*stateBytes); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		w.window = at
	}
	o := uint64(p-w.base) & (stateMessages - 1) * 2
	return binary.LittleEndian.Uint16(w.buf[o:]) == Finished, nil
}

func (w *stateWords) close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

// read returns the whole of a plain file, nothing if it is not there.
func (y *verifier) read(name string) (b []byte, err error) {
	f, err := y.st.disk.OpenFile(name, false)
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	b = make([]byte, n)
	_, err = f.ReadAt(b, 0)
	return b, err
}

// rest looks at the delays and at files that belong to nothing.
func (y *verifier) rest() error {
	names, err := y.st.disk.List()
	if err != nil {
		return err
	}
	for _, gen := range delayNumbers(names) {
		broken, pending := 0, 0
		err := y.st.delays.read(gen, func(raw []byte) {
			switch _, ok := decodeDelay(raw); {
			case ok:
				y.found.Delays++
				broken, pending = broken+pending, 0 // what fails in front of a valid one was written once
			case bytes.Count(raw, []byte{0}) < delaySize: // else it never reached the disk
				pending++
			}
		})
		if err != nil {
			return err
		}
		if broken > 0 {
			y.damaged("%s: %d delays are damaged; these messages come at once", delayName(gen), broken)
		}
	}
	orphans := 0
	for _, name := range names {
		if y.st.orphan(name) {
			orphans++
		}
	}
	if orphans > 0 {
		y.note("%d files belong to nothing any more; the next start removes them", orphans)
	}
	return nil
}
