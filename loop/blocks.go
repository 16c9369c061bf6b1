package loop

import "math/bits"

// blockPool lends byte slices to the connections of one loop: for the start of an unfinished command, for output that
// could not be written, for input that waits. A connection that is idle has none. Owned by its loop.
//
// Sizes are powers of four from 1 KiB to 4 MiB; what is larger comes from the heap and goes back to it.
type blockPool struct {
	free [blockClasses][][]byte
}

const (
	blockClasses  = 7
	blockMinShift = 10
	blockKept     = 2 << 20 // bytes kept per class, but at least one block
)

func blockClass(size int) int {
	if size <= 1<<blockMinShift {
		return 0
	}
	return (bits.Len(uint(size-1)) - blockMinShift + 1) / 2
}

// get gives an empty block with room for size bytes.
func (p *blockPool) get(size int) []byte {
	class := blockClass(size)
	if class >= blockClasses {
		return make([]byte, 0, size)
	}
	if free := p.free[class]; len(free) > 0 {
		b := free[len(free)-1]
		free[len(free)-1] = nil
		p.free[class] = free[:len(free)-1]
		return b
	}
	return make([]byte, 0, 1<<(blockMinShift+2*class))
}

// put takes a block back. Slices that did not come from get (and nil) are left to the collector.
func (p *blockPool) put(b []byte) {
	size := cap(b)
	class := blockClass(size)
	if size == 0 || class >= blockClasses || size != 1<<(blockMinShift+2*class) {
		return
	}
	if kept := len(p.free[class]); kept == 0 || (kept+1)*size <= blockKept {
		p.free[class] = append(p.free[class], b[:0])
	}
}

// grow appends data to block b, which may be nil, and moves to a larger block when it must. It grows by what has
// arrived, never by what a client claims will arrive.
func (p *blockPool) grow(b, data []byte) []byte {
	if need := len(b) + len(data); need > cap(b) {
		bigger := p.get(max(need, 2*len(b)))
		bigger = append(bigger, b...)
		p.put(b)
		b = bigger
	}
	return append(b, data...)
}
