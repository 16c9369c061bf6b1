package fanout

import "github.com/nsqloop/nsqloop/mmapq"

// sideKey names a message that is not taken from the cursor: bits 0..51 position, bit 52 stream, bit 62 fresh (no byte of an earlier delivery
// was ever written: this delivery is not a further attempt).
type sideKey uint64

const (
	keyPos    = 1<<52 - 1
	keyStream = 1 << 52
	keyFresh  = 1 << 62
)

func makeKey(s mmapq.Stream, p mmapq.Pos) sideKey { return sideKey(uint64(p) | uint64(s)*keyStream) }

func (k sideKey) pos() mmapq.Pos       { return mmapq.Pos(k & keyPos) }
func (k sideKey) stream() mmapq.Stream { return mmapq.Stream(k >> 52 & 1) }
func (k sideKey) fresh() bool          { return k&keyFresh != 0 }

// sideQueue holds what was requeued, timed out, released or fell due, first in first out. after is the end of what was visible when the
// message was put back: it is claimed when the cursor gets there (Channel.sideReady), which is stock's "tail of the queue", so a consumer that requeues everything
// starves nobody.
type sideQueue struct {
	list []sideEntry
	head int
}

type sideEntry struct {
	key   sideKey
	after mmapq.Pos
}

func (q *sideQueue) len() int { return len(q.list) - q.head }

func (q *sideQueue) push(k sideKey, after mmapq.Pos) {
	if q.head > 1024 && q.head > len(q.list)/2 {
		q.list = q.list[:copy(q.list, q.list[q.head:])]
		q.head = 0
	}
	q.list = append(q.list, sideEntry{k, after})
}

func (q *sideQueue) first() sideEntry { return q.list[q.head] }

func (q *sideQueue) pop() {
	q.head++
	if q.head == len(q.list) {
		q.head = 0
		if cap(q.list) > 4096 {
			q.list = nil
		} else {
			q.list = q.list[:0]
		}
	}
}

func (q *sideQueue) clear() { *q = sideQueue{} }

// searchLimit bounds the walk that tells "client does not own message" from "ID not in flight" on the error path.
const searchLimit = 4096

func (q *sideQueue) holds(s mmapq.Stream, p mmapq.Pos) bool {
	for i := q.head; i < min(len(q.list), q.head+searchLimit); i++ {
		if k := q.list[i].key; k.pos() == p && k.stream() == s {
			return true
		}
	}
	return false
}
