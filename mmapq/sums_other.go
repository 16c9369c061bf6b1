//go:build !amd64

package mmapq

const haveSums3 = false

func sums3(*[3]uint32, *byte, *byte, *byte, int, int, int) {
	panic("BUG: not on this architecture")
}
