package fanout

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"sort"
)

// lease is what one connection holds in flight. It belongs to the connection's loop; no lock guards it.
//
// Messages claimed from the cursor are kept as runs in claim order: their ids ascend and, one connection having one message timeout, so do
// their deadlines, so expiry looks at the head only. Everything else (redelivered, deferred, touched) is in exc with a deadline order of its
// own.
type lease struct {
	runs  []leaseRun
	head  int
	hint  int // index of the run that the last lookup found
	empty int // runs behind head that hold nothing any more
	held  int

	exc   map[uint64]excEntry
	order minHeap[excDeadline] // entries whose message moved on are skipped when they surface
}

const runMax = 256

type leaseRun struct {
	id        uint64 // of the first message; the others count up
	deadline  int64
	delivered int64
	n, left   uint16
	bits      [runMax / 64]uint64 // 1 = in flight
}

type excEntry struct {
	deadline, delivered int64
}

type excDeadline struct {
	deadline int64
	id       uint64
}

func (d excDeadline) before(e excDeadline) bool {
	return d.deadline < e.deadline || d.deadline == e.deadline && byAge(d.id, e.id) < 0
}

// byAge orders ids by stream and position: the bits above them change when the node id does.
func byAge(a, b uint64) int { return cmp.Compare(a&(keyStream|keyPos), b&(keyStream|keyPos)) }

// addRun holds n messages from id on; a long run is kept as several, so that one of RDY 1 stays small.
func (l *lease) addRun(id uint64, n int, now, deadline int64) {
	for ; n > runMax; n -= runMax {
		l.addPart(id, runMax, now, deadline)
		id += runMax
	}
	l.addPart(id, n, now, deadline)
}

func (l *lease) addPart(id uint64, n int, now, deadline int64) {
	if l.head > 64 && l.head > len(l.runs)/2 {
		k := copy(l.runs, l.runs[l.head:])
		l.runs, l.hint, l.head = l.runs[:k], max(0, l.hint-l.head), 0
	}
	r := leaseRun{id: id, deadline: deadline, delivered: now, n: uint16(n), left: uint16(n)}
	for i := range r.bits {
		switch k := n - 64*i; {
		case k >= 64:
			r.bits[i] = ^uint64(0)
		case k > 0:
			r.bits[i] = 1<<uint(k) - 1
		}
	}
	l.runs = append(l.runs, r)
	l.held += n
}

// find returns the run that holds id in flight and the index of the message in it.
func (l *lease) find(id uint64) (*leaseRun, uint) {
	if l.hint >= l.head && l.hint < len(l.runs) {
		if r := &l.runs[l.hint]; id-r.id < uint64(r.n) {
			return r.at(id)
		}
		if l.hint+1 < len(l.runs) {
			if r := &l.runs[l.hint+1]; id-r.id < uint64(r.n) {
				l.hint++
				return r.at(id)
			}
		}
	}
	live := l.runs[l.head:]
	// Ordered by position: the bits above it change when the node id does.
	i := sort.Search(len(live), func(i int) bool { return live[i].id&keyPos > id&keyPos }) - 1
	if i < 0 || id-live[i].id >= uint64(live[i].n) {
		return nil, 0
	}
	l.hint = l.head + i
	return live[i].at(id)
}

func (r *leaseRun) at(id uint64) (*leaseRun, uint) {
	k := uint(id - r.id)
	if r.bits[k/64]&(1<<(k%64)) == 0 {
		return nil, 0
	}
	return r, k
}

// drop takes message k out of r.
func (l *lease) drop(r *leaseRun, k uint) {
	r.bits[k/64] &^= 1 << (k % 64)
	r.left--
	l.held--
	if r.left == 0 {
		l.empty++
		l.trim()
	}
}

// trim forgets runs that hold nothing: at the head at once, behind it when they are the majority.
func (l *lease) trim() {
	for l.head < len(l.runs) && l.runs[l.head].left == 0 {
		l.head++
		l.empty--
	}
	if l.head == len(l.runs) {
		l.runs, l.head, l.hint = l.runs[:0], 0, 0
		return
	}
	if l.empty > 32 && l.empty > (len(l.runs)-l.head)/2 {
		kept := l.runs[:0]
		for _, r := range l.runs[l.head:] {
			if r.left > 0 {
				kept = append(kept, r)
			}
		}
		l.runs, l.head, l.hint, l.empty = kept, 0, 0, 0
	}
}

// take removes id from the lease; delivered is when it was delivered.
func (l *lease) take(id uint64) (delivered int64, ok bool) {
	if r, k := l.find(id); r != nil {
		delivered = r.delivered
		l.drop(r, k)
		return delivered, true
	}
	e, ok := l.exc[id]
	if ok {
		delete(l.exc, id)
		l.held--
	}
	return e.delivered, ok
}

// addExc holds one message outside the runs.
func (l *lease) addExc(id uint64, delivered, deadline int64) {
	if l.exc == nil {
		l.exc = map[uint64]excEntry{}
	}
	l.exc[id] = excEntry{deadline: deadline, delivered: delivered}
	l.held++
	if len(l.order) > 2*len(l.exc)+64 {
		// Mostly deadlines of messages that moved on (a client that touches all the time): start over from what is held.
		l.order = l.order[:0]
		for id, e := range l.exc {
			l.order.push(excDeadline{e.deadline, id})
		}
		return
	}
	l.order.push(excDeadline{deadline, id})
}

// nextDeadline is the earliest deadline, 0 when nothing is held.
func (l *lease) nextDeadline() int64 {
	next := int64(0)
	if l.head < len(l.runs) {
		next = l.runs[l.head].deadline
	}
	for len(l.order) > 0 {
		top := l.order[0]
		if e, ok := l.exc[top.id]; ok && e.deadline == top.deadline {
			if next == 0 || top.deadline < next {
				next = top.deadline
			}
			break
		}
		l.order.pop()
	}
	return next
}

// expired takes out every message whose deadline is not after now and calls f with its id.
func (l *lease) expired(now int64, f func(id uint64)) {
	for l.head < len(l.runs) && l.runs[l.head].deadline <= now {
		r := &l.runs[l.head]
		l.held -= int(r.left)
		r.each(f)
		r.left = 0
		l.empty++
		l.trim()
	}
	for len(l.order) > 0 && l.order[0].deadline <= now {
		top := l.order[0]
		l.order.pop()
		if e, ok := l.exc[top.id]; ok && e.deadline == top.deadline {
			delete(l.exc, top.id)
			l.held--
			f(top.id)
		}
	}
}

func (r *leaseRun) each(f func(id uint64)) {
	for i, b := range r.bits {
		for ; b != 0; b &= b - 1 {
			f(r.id + uint64(64*i+bits.TrailingZeros64(b)))
		}
	}
}

// all takes out everything: runs in the order of their claims, then the rest by age.
func (l *lease) all(f func(id uint64)) {
	for i := range l.runs[l.head:] {
		l.runs[l.head+i].each(f)
	}
	for _, id := range slices.SortedFunc(maps.Keys(l.exc), byAge) {
		f(id)
	}
	l.clear()
}

func (l *lease) clear() { *l = lease{} }
