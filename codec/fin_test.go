package codec

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var finRows = []row{
	{subscribed, "FIN " + testID + "\n", []string{`FIN "0123456789abcdef"`}},
	{closing, "FIN " + testID + "\n", []string{`FIN "0123456789abcdef"`}},
	{subscribed, "FIN " + testID + " more\r\n", []string{`FIN "0123456789abcdef"`}},
	{subscribed, "TOUCH " + testID + "\n", []string{`TOUCH "0123456789abcdef"`}},
	{closing, "TOUCH " + testID + " more\n", []string{`TOUCH "0123456789abcdef"`}},
	{subscribed, "REQ " + testID + " 0\n", []string{`REQ "0123456789abcdef" 0 0`}},
	{subscribed, "REQ " + testID + " \n", []string{`REQ "0123456789abcdef" 0 0`}},
	{closing, "REQ " + testID + " 1500 more\n", []string{`REQ "0123456789abcdef" 1500 1500000000`}},

	{Policy{}, "FIN " + testID + "\n", []string{"FATAL E_INVALID cannot FIN in current state"}},
	{Policy{}, "REQ\n", []string{"FATAL E_INVALID cannot REQ in current state"}},
	{Policy{}, "TOUCH\n", []string{"FATAL E_INVALID cannot TOUCH in current state"}},
	{subscribed, "FIN\n", []string{"FATAL E_INVALID FIN insufficient number of params"}},
	{subscribed, "TOUCH\n", []string{"FATAL E_INVALID TOUCH insufficient number of params"}},
	{subscribed, "REQ\n", []string{"FATAL E_INVALID REQ insufficient number of params"}},
	{subscribed, "REQ " + testID + "\n", []string{"FATAL E_INVALID REQ insufficient number of params"}},
	{subscribed, "REQ short\n", []string{"FATAL E_INVALID REQ insufficient number of params"}},
	{subscribed, "FIN \n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "FIN " + testID[1:] + "\n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "FIN " + testID[1:] + "\r\n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "FIN " + testID[1:] + " \n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "FIN " + testID + "0\n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "FIN  " + testID[1:] + "\n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "TOUCH  " + testID + "\n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "REQ x y\n", []string{"FATAL E_INVALID invalid message ID"}},
	{subscribed, "REQ " + testID + " y\n", []string{"FATAL E_INVALID REQ could not parse timeout y"}},
	{subscribed, "REQ " + testID + " -1\n", []string{"FATAL E_INVALID REQ could not parse timeout -1"}},

	// The time of a REQ is clamped, after it wrapped.
	{subscribed, "REQ " + testID + " 3600001\n", []string{`REQ "0123456789abcdef" 3600001 3600000000000`}},
	{subscribed, "REQ " + testID + " 9223372036854\n", []string{`REQ "0123456789abcdef" 9223372036854 3600000000000`}},
	{subscribed, "REQ " + testID + " 9223372036855\n", []string{`REQ "0123456789abcdef" 9223372036855 0`}},
	{subscribed, "REQ " + testID + " 18446744073709551615\n", []string{`REQ "0123456789abcdef" -1 0`}},
	{subscribed, "REQ " + testID + " 18446744073709551617\n", []string{`REQ "0123456789abcdef" 1 1000000`}},
	{subscribed, "REQ " + testID + " 18446744073709552\n", []string{`REQ "0123456789abcdef" 18446744073709552 384000`}},
	{subscribed, "REQ " + testID + " 9223372036854775809\n", []string{`REQ "0123456789abcdef" -9223372036854775807 1000000`}},

	// Any 16 bytes that hold no separator are an id.
	{subscribed, "FIN \x00\x01\x02\x1f\t\v\r\x7f\x80\xff!abcde\n", []string{`FIN "\x00\x01\x02\x1f\t\v\r\x7f\x80\xff!abcde"`}},
	{subscribed, "FIN \x80\x81\xa0\xff\x8a\x8d\xa1\x7f!~abcdef\n", []string{`FIN "\x80\x81\xa0\xff\x8a\x8d\xa1\x7f!~abcdef"`}},
	{subscribed, "FIN 0123456789abcde\r\r\n", []string{`FIN "0123456789abcde\r"`}},
	{subscribed, "FIN 0123456\n", []string{"FATAL E_INVALID invalid message ID"}},
}

func TestFin(t *testing.T) { checkRows(t, finRows) }

func TestFin_Bytes(t *testing.T) {
	id := []byte(testID)
	require.Equal(t, "FIN 0123456789abcdef\n", string(AppendFin(nil, id)))
	require.Equal(t, "TOUCH 0123456789abcdef\n", string(AppendTouch(nil, id)))
	require.Equal(t, "REQ 0123456789abcdef 1500\n", string(AppendReq(nil, id, 1500*time.Millisecond)))
	require.Equal(t, "REQ 0123456789abcdef 0\n", string(AppendReq(nil, id, 0)))
}

func TestFin_OutcomeFailed(t *testing.T) {
	for k, want := range map[Kind]string{
		KindFin:   "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight",
		KindReq:   "E_REQ_FAILED REQ 0123456789abcdef failed ID not in flight",
		KindTouch: "E_TOUCH_FAILED TOUCH 0123456789abcdef failed ID not in flight",
	} {
		e := OutcomeFailed(k, []byte(testID), "ID not in flight")
		require.Equal(t, want, e.Error())
		require.False(t, e.Fatal)
	}
	require.Equal(t, "E_FIN_FAILED FIN \xff\x00 failed x", OutcomeFailed(KindFin, []byte("\xff\x00"), "x").Error())
}

// The short way through a FIN must let every byte that separates or ends take the long way, at every place of the id.
func TestFin_EveryByteAtEveryPlace(t *testing.T) {
	for at := range IDLen {
		for b := range 256 {
			line := []byte("FIN " + testID + "\n")
			line[4+at] = byte(b)
			in := string(line) + "NOP\n"
			want, _ := modelEvents(in, testLimits, subscribed)
			c := newConversation(t, &testLimits, subscribed)
			c.arriveWhole(in)
			require.Equal(t, texts(want), texts(c.events), "%q", in)
		}
	}
}
