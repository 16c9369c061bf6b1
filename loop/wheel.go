package loop

import "math/bits"

// The timing wheel of one loop: levels of 64 slots; a slot of level i is 64^i milliseconds wide. A node lies on the
// level of the highest base-64 digit in which its tick differs from the wheel's clock, in the slot of its own digit
// there. So within a level every occupied slot lies ahead of the clock's digit, the first occupied slot of the lowest
// occupied level is the next thing to do, and nothing ever wraps around.
//
// The wheel is driven by deadlines, there is no tick: next tells when advance has something to do. It is owned by its
// loop. Arming and disarming cost O(1) and no allocation: nodes are part of what they belong to.
const (
	wheelDigit  = 6
	wheelSlots  = 1 << wheelDigit
	wheelLevels = 8 // 48 bits of milliseconds since 1970 last until the year 10889

	tickNs = 1e6
)

// timerNode is one armed deadline. The zero node is disarmed.
type timerNode struct {
	next, prev *timerNode
	tick       int64 // deadline rounded up to milliseconds: a node never fires early
	slot       uint16
	armed      bool
	owner      *conn
}

// deadline is when the node fires, in nanoseconds; 0 when it is disarmed.
func (n *timerNode) deadline() int64 {
	if !n.armed {
		return 0
	}
	return n.tick * tickNs
}

type wheel struct {
	clock    int64 // in ticks: everything due at or before it has fired
	occupied [wheelLevels]uint64
	slots    [wheelLevels * wheelSlots]*timerNode
}

// start sets the clock of an empty wheel.
func (w *wheel) start(now int64) { w.clock = now / tickNs }

// arm sets or moves the node to the deadline at, in nanoseconds. A deadline that has passed fires with the next tick.
func (w *wheel) arm(n *timerNode, at int64) {
	w.disarm(n)
	n.tick = max((at+tickNs-1)/tickNs, w.clock+1)
	w.place(n)
}

// disarm is a no-op on a disarmed node.
func (w *wheel) disarm(n *timerNode) {
	if !n.armed {
		return
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		w.slots[n.slot] = n.next
		if n.next == nil {
			w.occupied[n.slot/wheelSlots] &^= 1 << (n.slot % wheelSlots)
		}
	}
	if n.next != nil {
		n.next.prev = n.prev
	}
	n.next, n.prev, n.armed = nil, nil, false
}

// place links a node by its tick, which is ahead of the clock (or equal to it while a slot is spread).
func (w *wheel) place(n *timerNode) {
	level := (bits.Len64(uint64(n.tick^w.clock)|(wheelSlots-1)) - 1) / wheelDigit
	if level >= wheelLevels {
		panic("BUG: a deadline beyond the wheel")
	}
	digit := uint16(n.tick>>(level*wheelDigit)) % wheelSlots
	n.slot = uint16(level)*wheelSlots + digit
	n.armed = true
	n.prev = nil
	n.next = w.slots[n.slot]
	if n.next != nil {
		n.next.prev = n
	}
	w.slots[n.slot] = n
	w.occupied[level] |= 1 << digit
}

// nextSlot finds the slot to be worked on first and the tick at which that is due.
func (w *wheel) nextSlot() (level, digit int, tick int64, ok bool) {
	for level = range wheelLevels {
		if w.occupied[level] == 0 {
			continue
		}
		digit = bits.TrailingZeros64(w.occupied[level])
		shift := level * wheelDigit
		tick = (w.clock>>(shift+wheelDigit)<<wheelDigit | int64(digit)) << shift
		return level, digit, tick, true
	}
	return 0, 0, 0, false
}

// next is when advance must be called at the latest, in nanoseconds; 0 if never. For far deadlines that is the time
// to spread their slot, some 64 times nearer than the deadline's distance.
func (w *wheel) next() int64 {
	if _, _, tick, ok := w.nextSlot(); ok {
		return tick * tickNs
	}
	return 0
}

// advance moves the clock to now and calls fire for every node due by then, in order of their ticks. A node is
// disarmed before its call, and fire may arm and disarm any node.
func (w *wheel) advance(now int64, fire func(*timerNode)) {
	limit := now / tickNs
	for {
		level, digit, tick, ok := w.nextSlot()
		if !ok || tick > limit {
			w.clock = max(w.clock, limit)
			return
		}
		w.clock = tick
		slot := &w.slots[level*wheelSlots+digit]
		if level > 0 { // spread it over the levels below
			n := *slot
			*slot = nil
			w.occupied[level] &^= 1 << digit
			for n != nil {
				following := n.next
				w.place(n)
				n = following
			}
			continue
		}
		for n := *slot; n != nil; n = *slot {
			w.disarm(n)
			fire(n)
		}
	}
}
