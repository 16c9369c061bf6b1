package codec

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestError_Frames(t *testing.T) {
	require.Equal(t, "\x00\x00\x00\x12\x00\x00\x00\x01E_BAD_PROTOCOL", string(AppendError(nil, ErrBadProtocol)))
	require.Equal(t, "x\x00\x00\x00\x1e\x00\x00\x00\x01E_INVALID invalid command ", string(AppendError([]byte("x"), errUnknown(nil))))
	require.Equal(t, "E_BAD_PROTOCOL", ErrBadProtocol.Error())
	require.True(t, ErrBadProtocol.Fatal)
}

func TestError_Identify(t *testing.T) {
	e := IdentifyFailed("tls: first record does not look like a TLS handshake")
	require.Equal(t, "E_IDENTIFY_FAILED IDENTIFY failed tls: first record does not look like a TLS handshake", e.Error())
}

func TestQuote(t *testing.T) {
	for raw, want := range map[string]string{
		"": `""`, "plain": `"plain"`, `q"b\`: `"q\"b\\"`, "\a\b\f\n\r\t\v": `"\a\b\f\n\r\t\v"`, "\x00\x1f\x7f": `"\x00\x1f\x7f"`,
		"\xff\xc3(": `"\xff\xc3("`, "h\u00e9\u4e16": "\"h\u00e9\u4e16\"", "\u200b\u00a0\ufeff": `"\u200b\u00a0\ufeff"`,
		"\U0001F600": "\"\U0001F600\"", "\U000e0001": `"\U000e0001"`, "'": `"'"`, "\xed\xa0\x80": `"\xed\xa0\x80"`,
	} {
		require.Equal(t, "x"+want, string(Quote([]byte("x"), []byte(raw))))
		require.Equal(t, want, fmt.Sprintf("%q", raw))
	}
}
