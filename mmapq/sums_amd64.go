package mmapq

import "golang.org/x/sys/cpu"

// sums3 continues the CRC-32C of three pieces of memory at once: the instruction takes three cycles, but one of another sum can begin in each.
// For 234-byte frames that is 8 ns each instead of 25.
//
//go:noescape
func sums3(sums *[3]uint32, a, b, c *byte, na, nb, nc int)

var haveSums3 = cpu.X86.HasSSE42
