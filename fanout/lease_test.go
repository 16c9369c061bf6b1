package fanout

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// leaseModel is a map of what is held, beside the lease under test.
type leaseModel struct {
	lease
	held map[uint64]excEntry
	now  int64
	pos  mmapq.Pos
	rng  *rand.Rand
}

const leaseTimeout = 1000

func newLeaseModel(seed uint64) *leaseModel {
	return &leaseModel{held: map[uint64]excEntry{}, now: 1, pos: 1 << 30, rng: rand.New(rand.NewPCG(seed, 2))}
}

// claimRun holds a run of 1..256 messages. The node id may be another one in every run, and positions may jump, as after a restart.
func (m *leaseModel) claimRun() {
	n := 1 + m.rng.IntN(runMax)
	if m.rng.IntN(4) == 0 {
		m.pos += mmapq.Pos(m.rng.IntN(1 << 21))
	}
	id := mmapq.IDPrefix(uint16(m.rng.IntN(3)), streamMain) | uint64(m.pos)
	m.addRun(id, n, m.now, m.now+leaseTimeout)
	for i := range uint64(n) {
		m.held[id+i] = excEntry{m.now + leaseTimeout, m.now}
	}
	m.pos += mmapq.Pos(n)
}

// claimOther holds a message outside the runs, of either stream.
func (m *leaseModel) claimOther() {
	id := mmapq.IDPrefix(7, mmapq.Stream(m.rng.IntN(2))) | uint64(m.rng.IntN(1<<20))
	if _, ok := m.held[id]; ok {
		return
	}
	m.addExc(id, m.now, m.now+leaseTimeout)
	m.held[id] = excEntry{m.now + leaseTimeout, m.now}
}

// some picks an id: mostly a held one, else a neighbour, another node's or anything.
func (m *leaseModel) some() uint64 {
	id := m.rng.Uint64()
	if ids := m.sample(); len(ids) > 0 {
		id = ids[m.rng.IntN(len(ids))]
	}
	switch m.rng.IntN(10) {
	case 0:
		return id + 1
	case 1:
		return id ^ 1<<53
	case 2:
		return m.rng.Uint64()
	}
	return id
}

// sample returns some held ids in order; sorting all at every step would be slow.
func (m *leaseModel) sample() []uint64 {
	var ids []uint64
	for id := range m.held {
		if ids = append(ids, id); len(ids) == 8 {
			break
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *leaseModel) step(t *testing.T) {
	switch k := m.rng.IntN(100); {
	case k < 4:
		m.claimRun()
	case k < 10:
		m.claimOther()
	case k < 70:
		id := m.some()
		want, held := m.held[id]
		delivered, ok := m.take(id)
		require.Equal(t, held, ok, "%x", id)
		if ok {
			require.Equal(t, want.delivered, delivered)
		}
		delete(m.held, id)
	case k < 85: // touch
		id := m.some()
		if delivered, ok := m.take(id); ok {
			e := excEntry{m.now + int64(m.rng.IntN(2*leaseTimeout)), delivered}
			m.addExc(id, e.delivered, e.deadline)
			m.held[id] = e
		}
	case k < 97:
		m.now += int64(m.rng.IntN(30))
		m.expire(t)
	case k < 98:
		m.now += leaseTimeout / 2
	default:
		if m.rng.IntN(20) == 0 {
			var got []uint64
			m.all(func(id uint64) { got = append(got, id) })
			slices.Sort(got)
			require.Equal(t, slices.Sorted(maps.Keys(m.held)), got)
			clear(m.held)
		}
	}
	m.check(t)
}

func (m *leaseModel) expire(t *testing.T) {
	var got []uint64
	m.expired(m.now, func(id uint64) { got = append(got, id) })
	for _, id := range got {
		e, ok := m.held[id]
		require.True(t, ok, "expired %x is not held, or twice", id)
		require.LessOrEqual(t, e.deadline, m.now)
		delete(m.held, id)
	}
}

func (m *leaseModel) check(t *testing.T) {
	next := int64(0)
	for _, e := range m.held {
		if next == 0 || e.deadline < next {
			next = e.deadline
		}
	}
	require.Equal(t, len(m.held), m.lease.held)
	require.Equal(t, next, m.nextDeadline())
	require.LessOrEqual(t, len(m.order), 2*len(m.exc)+65, "deadlines of messages that moved on pile up")
	live := 0
	for _, r := range m.runs[m.head:] {
		if r.left > 0 {
			live++
		}
	}
	require.LessOrEqual(t, len(m.runs)-m.head, 2*live+64, "finished runs pile up")
	require.LessOrEqual(t, m.head, max(65, len(m.runs)/2+1)+runMax, "runs are not moved up")
}

func TestLeaseAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			m := newLeaseModel(seed)
			for range 3000 {
				m.step(t)
			}
		})
	}
}

// Every order of finishing a few short runs, so that every way to empty, compact and hit or miss the hint is taken.
func TestLeaseEveryOrder(t *testing.T) {
	ids := []uint64{10, 11, 12, 20, 30, 31}
	permute(ids, 0, func(order []uint64) {
		var l lease
		l.addRun(10, 3, 1, 2)
		l.addRun(20, 1, 1, 2)
		l.addRun(30, 2, 1, 2)
		for i, id := range order {
			_, ok := l.take(id)
			require.True(t, ok, order)
			_, ok = l.take(id)
			require.False(t, ok, order)
			require.Equal(t, len(ids)-i-1, l.held)
		}
		require.Zero(t, l.nextDeadline())
		require.Empty(t, l.runs)
	})
}

func permute(list []uint64, from int, f func([]uint64)) {
	if from == len(list) {
		f(list)
		return
	}
	for i := from; i < len(list); i++ {
		list[from], list[i] = list[i], list[from]
		permute(list, from+1, f)
		list[from], list[i] = list[i], list[from]
	}
}

// A client that leaves one message of every run unfinished keeps these runs, not the finished ones between them.
func TestLeaseForgetsFinishedRuns(t *testing.T) {
	var l lease
	for r := range uint64(10000) {
		l.addRun(r*runMax, runMax, 1, 2)
		for k := range uint64(runMax) {
			if k != 0 || r%100 != 0 {
				_, ok := l.take(r*runMax + k)
				require.True(t, ok)
			}
		}
	}
	require.Equal(t, 100, l.held)
	require.LessOrEqual(t, cap(l.runs), 1024)
	for r := uint64(0); r < 10000; r += 100 {
		_, ok := l.take(r * runMax)
		require.True(t, ok, r)
	}
	require.Zero(t, l.held)
}

// A client that touches all the time needs no more memory than one that does not.
func TestLeaseTouchFlood(t *testing.T) {
	var l lease
	l.addRun(0, runMax, 1, 2)
	for i := range int64(1 << 20) {
		id := uint64(i) % 16
		delivered, ok := l.take(id)
		require.True(t, ok)
		l.addExc(id, delivered, 1000+i)
	}
	require.LessOrEqual(t, cap(l.order), 256)
	require.Len(t, l.exc, 16)
	require.EqualValues(t, 2, l.nextDeadline())
}

func TestLeaseRunsGoByTheWholeID(t *testing.T) {
	var l lease
	a, b := mmapq.IDPrefix(1, streamMain)|100, mmapq.IDPrefix(0, streamMain)|200
	l.addRun(a, 10, 1, 2)
	l.addRun(b, 10, 1, 2)
	for _, wrong := range []uint64{mmapq.IDPrefix(0, streamMain) | 100, mmapq.IDPrefix(1, streamMain) | 200, mmapq.IDPrefix(1, streamDeferred) | 100, 100, a + 10, a - 1} {
		_, ok := l.take(wrong)
		require.False(t, ok, "%x", wrong)
	}
	for i := range uint64(10) {
		_, ok := l.take(b + i)
		require.True(t, ok)
		_, ok = l.take(a + 9 - i)
		require.True(t, ok)
	}
}

// A long run is held in parts; who answers it does not notice.
func TestLeaseOfALongRun(t *testing.T) {
	const n = 2*runMax + 7
	var l lease
	l.addRun(100, n, 1, 2)
	require.Equal(t, n, l.held)
	require.EqualValues(t, 2, l.nextDeadline())
	for _, k := range []uint64{n - 1, runMax, 0, runMax - 1, 2 * runMax} {
		_, ok := l.take(100 + k)
		require.True(t, ok)
		_, ok = l.take(100 + k)
		require.False(t, ok)
	}
	_, ok := l.take(100 + n)
	require.False(t, ok)
	var rest []uint64
	l.expired(2, func(id uint64) { rest = append(rest, id) })
	require.Len(t, rest, n-5)
	require.True(t, slices.IsSorted(rest))
	require.Zero(t, l.held)
}
