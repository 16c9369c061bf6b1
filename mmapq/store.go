// Package mmapq is the log: topics as append-only logs of mapped segment files whose bytes are the frames that go to consumers, the channels'
// state beside them, and the manifest that says what is whose. It knows neither topics' behaviour nor sockets.
package mmapq

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Store. Zero values get the defaults named.
type Options struct {
	Node        uint16
	Sync        SyncPolicy
	SyncTimeout time.Duration      // longest time between syncs under SyncInterval; 2 s
	SyncEvery   int64              // N > 1: also after N publishes; 0: by time only
	SegmentMax  int                // largest segment, unless a body needs more; 16 MiB
	PoolBytes   int                // freed segments kept for reuse; 1 GiB
	DiskReserve int64              // bytes kept for channel state on a full disk (see spare), less on a small one; 64 MiB; negative: none
	Settled     func(loops uint64) // called after syncs with the bits of loops that asked (Log.AwaitLoop); must not block
	Warn        func(format string, args ...any)
	Clock       *BootClock // nil: the machine's at the start of the process
}

// Store is one data directory.
type Store struct {
	opts    Options
	disk    Disk // the spare
	spare   *spare
	man     *manifest
	table   *table
	delays  *delayFiles
	pool    pool
	prepare *preparer
	sync    *syncer
	fetch   fetchPool
	logs    map[logKey]*Log // as recovered; handed out by TopicLogs
	found   Recovery

	clockLead   int64              // see ClockLead; set by load
	foundDelays map[uint64][]Delay // by channel; dropped by FinishRecovery
	damaged     atomic.Int64       // Recovery.Damaged
	verified    atomic.Int64       // segments, in the background

	full     atomic.Pointer[noRoom]
	newFiles atomic.Bool // a file was created since the last directory sync
	failure  atomic.Pointer[error]
	reclaim  sync.Mutex // held while windows are unmapped, and by the syncer while it syncs them

	idMu   sync.Mutex
	lastID uint64

	trimmed time.Time     // reclaimer
	retry   time.Duration // prepareRetry
	large   int           // writeOutFrom

	quit   chan struct{}
	closed bool
	wg     sync.WaitGroup
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Open reads the directory back, or starts an empty one.
func Open(disk Disk, opts Options) (*Store, error) {
	if opts.SyncTimeout <= 0 {
		opts.SyncTimeout = 2 * time.Second
	}
	if opts.SegmentMax <= 0 || opts.SegmentMax > classSizes[len(classSizes)-1] {
		opts.SegmentMax = classSizes[len(classSizes)-1]
	}
	opts.SegmentMax = max(opts.SegmentMax&^(headerSize-1), classSizes[0])
	if opts.PoolBytes <= 0 {
		opts.PoolBytes = 1 << 30
	}
	if opts.DiskReserve == 0 {
		opts.DiskReserve = spareDefault
	}
	st := newStore(disk, opts)
	if err := contain(st.load); err != nil {
		return nil, err
	}
	st.wg.Add(3)
	go st.verifyAll(verifyAfter, verifyRate)
	go st.prepare.run()
	go st.sync.run()
	return st, nil
}

// newStore is a store that has read nothing and does nothing yet.
func newStore(disk Disk, opts Options) *Store {
	reserve := &spare{Disk: disk}
	st := &Store{opts: opts, disk: reserve, spare: reserve, logs: map[logKey]*Log{}, quit: make(chan struct{}), retry: prepareRetry, large: writeOutFrom}
	st.fetch.st = st
	st.table = &table{st: st}
	st.delays = &delayFiles{st: st}
	st.pool.bySize = map[int][]*slot{}
	st.prepare = &preparer{st: st, kick: make(chan struct{}, 1)}
	st.sync = &syncer{st: st, wake: make(chan struct{}, 1), now: make(chan struct{}, 1), workers: syncWorkers}
	st.man = &manifest{disk: reserve, model: newModel()}
	return st
}

func (st *Store) load() error {
	if err := st.spare.open(st.opts.DiskReserve); err != nil {
		return err
	}
	found, raw, err := readManifest(st.disk)
	if isNotExist(err) {
		err = st.refuseOrphans()
	}
	if err != nil {
		return err
	}
	for _, r := range found.recs {
		st.man.model.apply(r)
	}
	if n := st.man.model.unknown; n > 0 {
		return fmt.Errorf("%s: %d records of a kind this version does not know: %w", ManifestName, n, ErrNewerFormat)
	}
	st.found.TornBytes, st.found.LostBytes = found.torn, found.lost
	if found.torn > 0 {
		st.warn("%s: %d bytes behind the last valid record are dropped", ManifestName, found.torn)
	}
	if err := st.renewManifest(found, raw); err != nil {
		return err
	}
	AtPoint(PointRecover)
	if err := st.recoverLogs(); err != nil {
		return err
	}
	names, err := st.disk.List()
	if err != nil {
		return err
	}
	st.foundDelays, err = st.delays.recover(names, st.now())
	return err
}

// renewManifest begins this life's manifest: the old one in its shortest form, or, where a full disk has no room for both, the old one itself.
func (st *Store) renewManifest(found manifestFound, raw []byte) (err error) {
	if found.lost > 0 {
		st.warn("%s: %d bytes are damaged; a copy is kept, and so is every file that nothing refers to now", ManifestName, found.lost)
		err = st.keepCopy(ManifestName+".damaged", raw)
	}
	st.lastID = st.man.model.lastID
	st.setClock()
	if err == nil {
		err = st.man.rewrite()
	}
	if !isFull(err) || raw == nil {
		return err
	}
	st.warn("%s is used as it is: %v", ManifestName, err)
	return st.man.resume(found)
}

// refuseOrphans is asked when there is no manifest: a directory that has segments without one must not be taken for an empty one, they would be
// removed.
func (st *Store) refuseOrphans() error {
	names, err := st.disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if st.orphan(name) {
			return fmt.Errorf("%s is missing but %s is there: put it back, or move the nsqloop.* files away to start empty", ManifestName, name)
		}
	}
	return nil
}

func (st *Store) keepCopy(name string, b []byte) error {
	f, err := st.disk.OpenFile(name, true)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Recovered tells what the start found, and what damage readers found since.
func (st *Store) Recovered() Recovery {
	r := st.found
	r.Damaged, r.Verified = st.damaged.Load(), st.verified.Load()
	return r
}

func (st *Store) warn(format string, args ...any) {
	if st.opts.Warn != nil {
		st.opts.Warn(format, args...)
	}
}

// fail records the first failure that ends publishing for the life of the process: what was promised can no longer be kept.
func (st *Store) fail(err error) {
	if st.failure.CompareAndSwap(nil, &err) {
		st.warn("publishing stops: %v", err)
		if bug := (bugError{}); errors.As(err, &bug) {
			st.warn("%s", bug.stack)
		}
	}
}

// Failed is why publishing stopped, or nil.
func (st *Store) Failed() error {
	if p := st.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Policy returns the sync policy.
func (st *Store) Policy() SyncPolicy { return st.opts.Sync }

func (st *Store) newID() uint64 {
	st.idMu.Lock()
	defer st.idMu.Unlock()
	st.lastID++
	return st.lastID
}

func (st *Store) newLog(t *TopicMeta, stream Stream, memory bool) *Log {
	l := &Log{st: st, topicID: t.ID, name: t.Name, stream: stream, memory: memory, nextBase: t.Base[stream]}
	l.ready = sync.NewCond(&l.mu)
	l.segs.Store(&[]*Segment{})
	l.committed.Store(uint64(t.Base[stream]))
	l.durable.Store(uint64(t.Base[stream]))
	return l
}

var epoch2020 = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// firstPosition is where a topic that is made us microseconds after 2020 begins. A clock that is not set, or set to nonsense, does not leave the
// 52 bits that a position has.
func firstPosition(us int64) Pos { return Pos(min(max(us, 1), int64(posMask/2))) }

// CreateTopic records a new topic. memory: an ephemeral one, of which nothing reaches the disk.
func (st *Store) CreateTopic(name string, memory bool) (TopicMeta, [2]*Log, error) {
	base := max(firstPosition(time.Now().UnixMicro()-epoch2020), st.man.floor(0))
	start := [2]Pos{base, base}
	t := &TopicMeta{ID: st.newID(), Name: name, Base: start, Held: true, HeldAt: start}
	if !memory {
		if err := st.man.append(record{kind: recTopic, id: t.ID, a: uint64(base), b: uint64(base), name: name}); err != nil {
			return TopicMeta{}, [2]*Log{}, err
		}
	}
	return *t, [2]*Log{st.newLog(t, StreamMain, memory), st.newLog(t, StreamDeferred, memory)}, nil
}

// SaveTopic records pause and hold of a topic.
func (st *Store) SaveTopic(t TopicMeta) error { return st.man.append(t.stateRecord()) }

// DeleteTopic records that a topic is gone and that no later topic may use its positions, and makes that durable.
func (st *Store) DeleteTopic(t TopicMeta, logs [2]*Log) error {
	AtPoint(PointTopicGone)
	top := max(logs[0].top(), logs[1].top()) + positionJump
	if err := st.man.append(record{kind: recFloor, a: uint64(top)}, record{kind: recTopicGone, id: t.ID}); err != nil {
		return err
	}
	return st.syncManifest()
}

// syncManifest makes the manifest durable; a failure ends publishing like that of any other sync.
func (st *Store) syncManifest() error {
	err := st.man.sync()
	if err != nil {
		st.fail(fmt.Errorf("sync: %w", err))
	}
	return err
}

// top is above every position the log has handed out.
func (l *Log) top() Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := max(l.nextBase, l.Committed())
	if l.open != nil {
		p = max(p, l.open.end())
	}
	return p
}

func stateName(id uint64, s Stream) string { return fmt.Sprintf("nsqloop.%016x.%d.state", id, s) }

// CreateChannel records a new channel that starts at start. memory: an ephemeral one.
func (st *Store) CreateChannel(t TopicMeta, name string, start [2]Pos, memory bool) (ChannelMeta, *ChannelSlot, [2]*State, error) {
	c := ChannelMeta{ID: st.newID(), Name: name, Start: start, topic: t.ID}
	if memory {
		slot := &ChannelSlot{mem: alignedBytes(tableSlot)}
		slot.init(start)
		return c, slot, [2]*State{newState(st, "", start[0]), newState(st, "", start[1])}, nil
	}
	slot, err := st.table.take(c.ID)
	if err != nil {
		return c, nil, [2]*State{}, err
	}
	slot.init(start)
	c.Slot = slot.index
	if err := st.man.append(c.record()); err != nil {
		st.table.give(slot)
		return c, nil, [2]*State{}, err
	}
	return c, slot, st.states(c), nil
}

func (s *ChannelSlot) init(start [2]Pos) {
	for i, p := range start {
		s.SetFloor(Stream(i), p)
		s.SetCursor(Stream(i), p)
	}
}

func (st *Store) states(c ChannelMeta) [2]*State {
	return [2]*State{
		newState(st, stateName(c.ID, StreamMain), c.Start[0]),
		newState(st, stateName(c.ID, StreamDeferred), c.Start[1]),
	}
}

// SaveChannelPaused records a channel's pause flag.
func (st *Store) SaveChannelPaused(c ChannelMeta) error {
	r := record{kind: recChannelPaused, id: c.ID}
	if c.Paused {
		r.flags = flagPaused
	}
	return st.man.append(r)
}

// DeleteChannel records that a channel is gone, together with what that makes of its topic.
func (st *Store) DeleteChannel(c ChannelMeta, t TopicMeta) error {
	return st.man.append(record{kind: recChannelGone, id: c.ID}, t.stateRecord())
}

// DropChannel gives a deleted channel's table slot and state files back. Nothing of it is in flight any more. As long as the manifest still names
// the channel (its deletion could not be recorded) both stay its own: the next start brings it back as it was. Runs on the reclaimer: it waits
// for a sync, one for all channels that were deleted together.
func (st *Store) DropChannel(slot *ChannelSlot, states [2]*State, memory bool) error {
	var err error
	if !memory {
		if id := slot.id(); st.man.has(id) {
			err = st.man.append(record{kind: recChannelGone, id: id})
		}
		if err == nil {
			err = st.syncManifest() // a power cut that brings the channel back must find its place and its states too
		}
	}
	st.reclaim.Lock()
	defer st.reclaim.Unlock()
	if err != nil {
		return errors.Join(err, states[0].Close(), states[1].Close())
	}
	if !memory {
		AtPoint(PointChannelGone)
		st.table.give(slot)
	}
	return errors.Join(states[0].Remove(), states[1].Remove())
}

// ReleaseState unmaps and punches what lies below floor. The caller may hold a lock that loops want: while a sync round needs the windows it
// does nothing, and is called again later.
func (st *Store) ReleaseState(s *State, floor Pos) error {
	if !s.releasable(floor) || !st.reclaim.TryLock() {
		return nil
	}
	defer st.reclaim.Unlock()
	return s.Release(floor)
}

// RecoveredTopic is one topic read back at start.
type RecoveredTopic struct {
	Meta TopicMeta
	Logs [2]*Log
}

// Topics returns what was recovered, without order. Called once, before anything is created.
func (st *Store) Topics() []RecoveredTopic {
	list := make([]RecoveredTopic, 0, len(st.man.model.topics))
	for id, t := range st.man.model.topics {
		meta := *t
		meta.Channels = append([]*ChannelMeta(nil), t.Channels...)
		list = append(list, RecoveredTopic{Meta: meta, Logs: [2]*Log{st.logs[logKey{id, 0}], st.logs[logKey{id, 1}]}})
	}
	return list
}

// RecoverChannel returns a channel's slot and states, with the floor and cursor that they prove: the cursor is behind everything that has a
// state. Called once per channel at start.
func (st *Store) RecoverChannel(c ChannelMeta, logs [2]*Log) (slot *ChannelSlot, states [2]*State, floor, cursor [2]Pos, err error) {
	slot, fresh, err := st.table.reopen(c.Slot, c.ID)
	if err != nil {
		return nil, states, floor, cursor, err
	}
	if fresh {
		slot.init(c.Start)
	}
	states = st.states(c)
	for i := range states {
		s := Stream(i)
		f, okF := slot.Floor(s)
		cur, okC := slot.Cursor(s)
		if !okF || !okC {
			st.warn("channel %s: its place in the table was torn; floor %d, cursor %d taken", c.Name, f, cur)
		}
		f = max(f, c.Start[i])
		top := max(logs[i].Committed(), f, cur)
		ext, err := states[i].extent()
		if err != nil {
			return nil, states, floor, cursor, err
		}
		known, err := states[i].load(logs[i], f, top, ext)
		if err != nil {
			return nil, states, floor, cursor, err
		}
		// Nothing new may get a position that has a state: it would read as finished. What a power cut left of the log can end below that.
		logs[i].startAt(states[i].base + ext)
		floor[i] = f
		cursor[i] = max(cur, f, states[i].Highest(f, known))
		logs[i].Seen(cursor[i])
	}
	return slot, states, floor, cursor, nil
}

// FinishRecovery makes table slots that no channel owns free. Called after the last RecoverChannel.
func (st *Store) FinishRecovery() {
	st.foundDelays = nil
	taken := map[uint32]bool{}
	st.man.mu.Lock()
	for _, c := range st.man.model.channels {
		taken[c.Slot] = true
	}
	st.man.mu.Unlock()
	st.table.fill(taken)
}

// Compact rewrites the manifest when most of it is history. Runs on the reclaimer.
func (st *Store) Compact() error {
	if !st.man.overgrown() {
		return nil
	}
	err := st.man.rewrite()
	if isFull(err) {
		return nil // later; the old file goes on
	}
	if broken := st.man.broken(); broken != nil {
		st.fail(fmt.Errorf("sync: %w", broken))
	}
	return err
}

// AtRisk returns how many messages of l are not yet synced.
func (l *Log) AtRisk() uint64 {
	to := l.Committed()
	from := min(to, Pos(l.durable.Load()))
	return l.count(from, to)
}

// stopBackground ends the preparer and the syncer.
func (st *Store) stopBackground() {
	if !st.closed {
		st.closed = true
		close(st.quit)
		st.fetch.close()
		st.wg.Wait()
	}
}

// Close syncs everything and lets go of the directory. No other method may run or follow.
func (st *Store) Close() error {
	st.stopBackground()
	AtPoint(PointClose)
	st.sync.round()
	err := st.Failed()
	if err == nil {
		err = st.table.sync() // cursors move without a round
	}
	return errors.Join(err, st.table.close(), st.delays.close(), st.man.close())
}

// Abandon stops the background goroutines and leaves everything else as it is, as a kill would. For tests of recovery.
func (st *Store) Abandon() { st.stopBackground() }
