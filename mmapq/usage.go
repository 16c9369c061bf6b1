package mmapq

// Usage is what a store uses and how it does, for watching.
type Usage struct {
	Segments         int    // that hold messages, ephemeral ones included
	SegmentBytes     int64  // of their files
	UnsyncedMessages uint64 // appended and not yet synced
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
}

// Timestamp returns when the message at p was published (ns since 1970), 0 when it cannot be read. The caller holds what keeps p from being
// freed, or can do with 0. It may read the disk: not for loops.
func (l *Log) Timestamp(p Pos) int64 {
	r, _ := l.Run(p, p+1, 1, 1)
	if r.N == 0 {
		return 0
	}
	defer r.Release()
	return FrameTimestamp(r.Bytes)
}
