package codec

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestID(t *testing.T) {
	for text, want := range map[string]uint64{
		"0000000000000000": 0, "0000000000000001": 1, "0123456789abcdef": 0x0123456789abcdef,
		"fedcba9876543210": 0xfedcba9876543210, "ffffffffffffffff": 1<<64 - 1, "8000000000000000": 1 << 63,
		"00000000ffffffff": 1<<32 - 1, "0000000100000000": 1 << 32,
	} {
		got, ok := ParseID([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
		require.Equal(t, "x"+text, string(AppendID([]byte("x"), want)))
	}
	for _, text := range []string{"", "0", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF", "0123456789ABCDEF",
		"0x23456789abcdef", " 123456789abcdef", "+123456789abcdef", "0123456789abcde\n"} {
		_, ok := ParseID([]byte(text))
		require.False(t, ok, "%q", text)
	}
}

// Every byte at every place: exactly the hex digits pass, with their value.
func TestID_EveryByteAtEveryPlace(t *testing.T) {
	for at := range IDLen {
		for b := range 256 {
			for _, rest := range []byte("0f") {
				id := []byte(fmt.Sprintf("%016s", ""))
				for i := range id {
					id[i] = rest
				}
				id[at] = byte(b)
				var want uint64
				_, err := fmt.Sscanf(string(id), "%x", &want)
				wantOK := err == nil && (b >= '0' && b <= '9' || b >= 'a' && b <= 'f')
				got, ok := ParseID(id)
				require.Equal(t, wantOK, ok, "%q", id)
				if ok {
					require.Equal(t, want, got, "%q", id)
				}
			}
		}
	}
}

func TestID_RoundTrip(t *testing.T) {
	v := uint64(1)
	for range 100_000 {
		v = bits.RotateLeft64(v*0x9e3779b97f4a7c15+0x1234567, 17)
		text := AppendID(nil, v)
		require.Equal(t, fmt.Sprintf("%016x", v), string(text))
		got, ok := ParseID(text)
		require.True(t, ok)
		require.Equal(t, v, got)
	}
}
