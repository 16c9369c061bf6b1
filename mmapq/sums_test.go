package mmapq

import (
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSums3: three at once give what one after the other gives, whatever the lengths, and read nothing beside them.
func TestSums3(t *testing.T) {
	if !haveSums3 {
		t.Skip("not on this processor")
	}
	mem := makeBody(1, 1, 4096)
	for na := range 40 {
		for _, nb := range []int{0, 1, 7, 8, 9, 15, 64, 234} {
			for _, nc := range []int{0, 3, 8, 21, 1000} {
				a, b, c := mem[1:1+na], mem[500:500+nb], mem[1003:1003+nc]
				sums := [3]uint32{1, 0xffffffff, 0x12345678}
				want := [3]uint32{
					crc32.Update(sums[0], castagnoli, a), crc32.Update(sums[1], castagnoli, b), crc32.Update(sums[2], castagnoli, c),
				}
				sums3(&sums, &mem[1], &mem[500], &mem[1003], na, nb, nc)
				require.Equal(t, want, sums, "%d, %d and %d bytes", na, nb, nc)
			}
		}
	}
}

func BenchmarkSums(b *testing.B) {
	mem := makeBody(1, 1, 4096)
	b.Run("three", func(b *testing.B) {
		var sums [3]uint32
		for range b.N / 3 {
			sums3(&sums, &mem[0], &mem[234], &mem[468], 234, 234, 234)
		}
	})
	b.Run("one", func(b *testing.B) {
		sum := uint32(0)
		for range b.N {
			sum = crc32.Update(sum, castagnoli, mem[:234])
		}
	})
}
