package codec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var authRows = []row{
	{in: "AUTH\n" + size(6) + "secret", want: []string{`AUTH "secret"`}},
	{in: "AUTH\r\n" + size(1) + "\x00", want: []string{`AUTH "\x00"`}},
	{in: "AUTH\n" + size(400) + strings.Repeat("s", 400), want: []string{`AUTH "` + strings.Repeat("s", 400) + `"`}},
	{in: "AUTH \n", want: []string{"FATAL E_INVALID AUTH invalid number of parameters"}},
	{in: "AUTH x\n", want: []string{"FATAL E_INVALID AUTH invalid number of parameters"}},
	{subscribed, "AUTH x\n", []string{"FATAL E_INVALID cannot AUTH in current state"}},
	{closing, "AUTH\n", []string{"FATAL E_INVALID cannot AUTH in current state"}},
	{in: "AUTH\n", want: []string{"OWED E_BAD_BODY AUTH failed to read body size"}},
	{in: "AUTH\n" + size(401), want: []string{"FATAL E_BAD_BODY AUTH body too big 401 > 400"}},
	{in: "AUTH\n" + size(0), want: []string{"FATAL E_BAD_BODY AUTH invalid body size 0"}},
	{in: "AUTH\n" + size(-1), want: []string{"FATAL E_BAD_BODY AUTH invalid body size -1"}},
	{in: "AUTH\n" + size(2) + "x", want: []string{"OWED E_BAD_BODY AUTH failed to read body"}},
}

func TestAuth(t *testing.T) { checkRows(t, authRows) }

func TestAuth_Bytes(t *testing.T) {
	require.Equal(t, "AUTH\n\x00\x00\x00\x06secret", string(AppendAuth(nil, []byte("secret"))))
}

func TestAuth_Answers(t *testing.T) {
	for _, c := range []struct {
		e    *Error
		want string
	}{
		{ErrAuthAlreadySet, "E_INVALID AUTH already set"},
		{ErrAuthDisabled, "E_AUTH_DISABLED AUTH disabled"},
		{ErrAuthFailed, "E_AUTH_FAILED AUTH failed"},
		{ErrAuthNoAuthorizations, "E_UNAUTHORIZED AUTH no authorizations found"},
		{AuthFirst(KindMpubHead), "E_AUTH_FIRST AUTH required before MPUB"},
		{Unauthorized(KindSub, []byte("t"), []byte("c")), `E_UNAUTHORIZED AUTH failed for SUB on "t" "c"`},
		{Unauthorized(KindDpub, []byte("t"), nil), `E_UNAUTHORIZED AUTH failed for DPUB on "t" ""`},
	} {
		require.Equal(t, c.want, c.e.Error())
		require.True(t, c.e.Fatal)
	}
}
