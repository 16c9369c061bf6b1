package codec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, ".": true, "-": true, "_": true, "0": true, "aZ09._-": true,
		strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "": false,
		"a#ephemeral": true, "#ephemeral": false, "a#ephemeral#ephemeral": false, "a#ephemera": false, "a#ephemeralx": false,
		"a#": false, "a#Ephemeral": false, "#": false, "a b": false, "a\n": false, "a\x00": false, "h\u00e9": false, "a/b": false,
		"a:": false, "a@": false, "a[": false, "a`": false, "a{": false, "a,": false, "\xff": false,
		strings.Repeat("x", 54) + "#ephemeral": true, strings.Repeat("x", 55) + "#ephemeral": false,
	} {
		require.Equal(t, want, ValidTopic([]byte(name)), "%q", name)
		require.Equal(t, want, ValidChannel([]byte(name)), "%q", name)
		require.Equal(t, want, modelName.MatchString(name), "%q", name)
	}
}

// Every byte, alone, behind a good byte, and before the suffix.
func TestNames_EveryByte(t *testing.T) {
	for b := range 256 {
		for _, name := range []string{string([]byte{byte(b)}), "a" + string([]byte{byte(b)}), string([]byte{byte(b)}) + "#ephemeral"} {
			require.Equal(t, modelName.MatchString(name), ValidTopic([]byte(name)), "%q", name)
		}
	}
}

func TestNames_IsEphemeral(t *testing.T) {
	for name, want := range map[string]bool{"a#ephemeral": true, "a": false, "": false, "ephemeral": false, "a#ephemera": false} {
		require.Equal(t, want, IsEphemeral([]byte(name)), "%q", name)
	}
}
