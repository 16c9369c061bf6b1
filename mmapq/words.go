package mmapq

import (
	"sync/atomic"
	"unsafe"
)

// The only place of this package that turns mapped bytes into machine words. Mapped memory is shared by loops and background goroutines, so
// every word that more than one goroutine may touch goes through here and is atomic. Callers pass offsets that are multiples of the word
// size; mappings start on a page and heap windows on 8 bytes (alignedBytes).

func loadWord(mem []byte, off int) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[off : off+8][0])))
}

func storeWord(mem []byte, off int, v uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&mem[off : off+8][0])), v)
}

func word32(mem []byte, off int) *uint32 {
	return (*uint32)(unsafe.Pointer(&mem[off : off+4][0]))
}

// touchPage dirties one page without changing it.
func touchPage(mem []byte, off int) { atomic.AddUint32(word32(mem, off), 0) }

// alignedBytes returns n zero bytes that start on an 8-byte boundary.
func alignedBytes(n int) []byte {
	w := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), len(w)*8)[:n:n]
}
