package mmapq

// Usage is what a store uses and how it does, for watching.
type Usage struct {
	Segments         int    // that hold messages, ephemeral ones included
	SegmentBytes     int64  // of their files
	UnsyncedMessages uint64 // appended and not yet synced: a power cut would take them
	UnsyncedBytes    int64  // their frames
	Damaged          int64  // messages that failed their checksum
	Sync             DurationCounts
}

// Usage returns what the store knows by itself; AddLog adds its logs.
func (st *Store) Usage() Usage {
	return Usage{Damaged: st.damaged.Load(), Sync: st.sync.took.Load()}
}

// AddLog adds what l uses.
func (u *Usage) AddLog(l *Log) {
	segs := *l.segs.Load()
	u.Segments += len(segs)
	for _, s := range segs {
		u.SegmentBytes += int64(len(s.mem))
	}
	if l.memory {
		return
	}
	u.UnsyncedMessages += l.AtRisk()
	u.UnsyncedBytes += l.bytesAtRisk()
}

// bytesAtRisk counts the bytes of frames that were appended and are not synced. They were stored lately: looking at their entries waits for no
// disk.
func (l *Log) bytesAtRisk() (n int64) {
	to := l.Committed()
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := *l.segs.Load()
	for i := len(segs) - 1; i >= 0; i-- {
		s := segs[i]
		below, synced := s.below(to), s.durable.Load()
		if synced >= below {
			break // older ones were synced earlier
		}
		from, end, _, _ := s.bytesOf(synced, below)
		n += int64(end - from)
	}
	return n
}

// Hold pins the segment that holds p, so that it can be read by a goroutine that nothing else keeps it from being freed under; nil: it is gone.
func (l *Log) Hold(p Pos) (release func()) {
	l.mu.Lock() // under which segments are looked at for pins before they are freed
	defer l.mu.Unlock()
	s := l.find(p)
	if s == nil || p < s.base || p >= s.end() {
		return nil
	}
	s.pin()
	return s.unpin
}

// Timestamp returns when the message at p was published (ns since 1970), 0 when it is gone or cannot be read. It may read the disk: not for
// loops.
func (l *Log) Timestamp(p Pos) int64 {
	release := l.Hold(p)
	if release == nil {
		return 0
	}
	defer release()
	r, _ := l.Run(p, p+1, 1, 1)
	if r.N == 0 {
		return 0
	}
	defer r.Release()
	return FrameTimestamp(r.Bytes)
}
