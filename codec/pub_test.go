package codec

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	longestName = strings.Repeat("n", 54) + "#ephemeral"
	tooLongName = strings.Repeat("n", 55) + "#ephemeral"
	hundred     = strings.Repeat("h", 100)
)

var pubRows = []row{
	{in: "PUB t\n" + size(5) + "hello", want: []string{`PUB t "hello"`}},
	{in: "PUB t extra  params\r\n" + size(2) + "\n\r", want: []string{`PUB t "\n\r"`}},
	{pol: subscribed, in: "PUB t\n" + size(1) + "x", want: []string{`PUB t "x"`}},
	{pol: closing, in: "PUB t\n" + size(1) + "x", want: []string{`PUB t "x"`}},
	{in: "PUB " + longestName + "\n" + size(1) + "x", want: []string{"PUB " + longestName + ` "x"`}},
	{in: "PUB t\n" + size(100) + hundred, want: []string{`PUB t "` + hundred + `"`}},

	{in: "PUB\n", want: []string{"FATAL E_INVALID PUB insufficient number of parameters"}},
	{in: "PUB \n", want: []string{`FATAL E_BAD_TOPIC PUB topic name "" is not valid`}},
	{in: "PUB  t\n", want: []string{`FATAL E_BAD_TOPIC PUB topic name "" is not valid`}},
	{in: "PUB a\"b\\\t\x01\xff\u00e9\u200b\U000e0001\n",
		want: []string{`FATAL E_BAD_TOPIC PUB topic name "a\"b\\\t\x01\xff` + "\u00e9" + `\u200b\U000e0001" is not valid`}},
	{in: "PUB " + tooLongName + "\n", want: []string{`FATAL E_BAD_TOPIC PUB topic name "` + tooLongName + `" is not valid`}},
	{in: "PUB t\n", want: []string{"OWED E_BAD_MESSAGE PUB failed to read message body size"}},
	{in: "PUB t\n\x00\x00\x00", want: []string{"OWED E_BAD_MESSAGE PUB failed to read message body size"}},
	{in: "PUB t\n" + size(0), want: []string{"FATAL E_BAD_MESSAGE PUB invalid message body size 0"}},
	{in: "PUB t\n" + size(-1), want: []string{"FATAL E_BAD_MESSAGE PUB invalid message body size -1"}},
	{in: "PUB t\n\x80\x00\x00\x00", want: []string{"FATAL E_BAD_MESSAGE PUB invalid message body size -2147483648"}},
	{in: "PUB t\n" + size(101), want: []string{"FATAL E_BAD_MESSAGE PUB message too big 101 > 100"}},
	{in: "PUB t\n\x7f\xff\xff\xff", want: []string{"FATAL E_BAD_MESSAGE PUB message too big 2147483647 > 100"}},
	{in: "PUB t\n" + size(5), want: []string{"OWED E_BAD_MESSAGE PUB failed to read message body"}},
	{in: "PUB t\n" + size(5) + "hell", want: []string{"OWED E_BAD_MESSAGE PUB failed to read message body"}},

	// The same topic again goes another way through the decoder.
	{in: "PUB t\n" + size(1) + "xPUB t\n" + size(0),
		want: []string{`PUB t "x"`, "FATAL E_BAD_MESSAGE PUB invalid message body size 0"}},
	{in: "PUB t\n" + size(1) + "xPUB t\n" + size(101),
		want: []string{`PUB t "x"`, "FATAL E_BAD_MESSAGE PUB message too big 101 > 100"}},
	{in: "PUB t\n" + size(1) + "xPUB t\n" + size(100) + hundred + "PUB t \n" + size(1) + "yPUB t\r\n" + size(1) + "z",
		want: []string{`PUB t "x"`, `PUB t "` + hundred + `"`, `PUB t "y"`, `PUB t "z"`}},
	{in: "PUB t\n" + size(1) + "xPUB tt\n" + size(1) + "yPUB t\n" + size(1) + "zPUB \n",
		want: []string{`PUB t "x"`, `PUB tt "y"`, `PUB t "z"`, `FATAL E_BAD_TOPIC PUB topic name "" is not valid`}},
	{in: "PUB t\n" + size(1) + "xPUB t\n" + size(101) + hundred + "h",
		want: []string{`PUB t "x"`, "FATAL E_BAD_MESSAGE PUB message too big 101 > 100"}},
	{in: "PUB t\n" + size(1) + "xPUB $\n" + size(1) + "y",
		want: []string{`PUB t "x"`, `FATAL E_BAD_TOPIC PUB topic name "$" is not valid`}},
	{in: "PUB t\n" + size(1) + "xPUB tX" + size(1) + "y\n",
		want: []string{`PUB t "x"`, `FATAL E_BAD_TOPIC PUB topic name "tX\x00\x00\x00\x01y" is not valid`}},
	{in: "PUB t\n" + size(1) + "xPUB t\n" + size(2) + "y",
		want: []string{`PUB t "x"`, "OWED E_BAD_MESSAGE PUB failed to read message body"}},
}

func TestPub(t *testing.T) { checkRows(t, pubRows) }

var dpubRows = []row{
	{in: "DPUB t 250\n" + size(2) + "hi", want: []string{`DPUB t "hi" 250 250000000`}},
	{in: "DPUB t 0\n" + size(2) + "hi", want: []string{`DPUB t "hi" 0 0`}},
	{in: "DPUB t \n" + size(2) + "hi", want: []string{`DPUB t "hi" 0 0`}},
	{in: "DPUB t 3600000 x\r\n" + size(2) + "hi", want: []string{`DPUB t "hi" 3600000 3600000000000`}},
	{in: "DPUB t 0000000000000000000000000000012\n" + size(2) + "hi", want: []string{`DPUB t "hi" 12 12000000`}},
	{in: "DPUB t 18446744073709551616\n" + size(2) + "hi", want: []string{`DPUB t "hi" 0 0`}},                   // 2^64
	{in: "DPUB t 18446744073709552\n" + size(2) + "hi", want: []string{`DPUB t "hi" 18446744073709552 384000`}}, // ns wrap

	{in: "DPUB\n", want: []string{"FATAL E_INVALID DPUB insufficient number of parameters"}},
	{in: "DPUB t\n", want: []string{"FATAL E_INVALID DPUB insufficient number of parameters"}},
	{in: "DPUB $\n", want: []string{"FATAL E_INVALID DPUB insufficient number of parameters"}},
	{in: "DPUB  \n", want: []string{`FATAL E_BAD_TOPIC DPUB topic name "" is not valid`}},
	{in: "DPUB $ x\n", want: []string{`FATAL E_BAD_TOPIC DPUB topic name "$" is not valid`}},
	{in: "DPUB t x\n", want: []string{"FATAL E_INVALID DPUB could not parse timeout x"}},
	{in: "DPUB t -1\n", want: []string{"FATAL E_INVALID DPUB could not parse timeout -1"}},
	{in: "DPUB t 1e3\n", want: []string{"FATAL E_INVALID DPUB could not parse timeout 1e3"}},
	{in: "DPUB t 3600001\n", want: []string{"FATAL E_INVALID DPUB timeout 3600001 out of range 0-3600000"}},
	{in: "DPUB t 18446744073709551615\n",
		want: []string{"FATAL E_INVALID DPUB timeout 18446744073709551615 out of range 0-3600000"}},
	{in: "DPUB t 9223372036855\n", want: []string{"FATAL E_INVALID DPUB timeout 9223372036855 out of range 0-3600000"}},
	{in: "DPUB t 1\n", want: []string{"OWED E_BAD_MESSAGE DPUB failed to read message body size"}},
	{in: "DPUB t 1\n" + size(0), want: []string{"FATAL E_BAD_MESSAGE DPUB invalid message body size 0"}},
	{in: "DPUB t 1\n" + size(101), want: []string{"FATAL E_BAD_MESSAGE DPUB message too big 101 > 100"}},
	{in: "DPUB t 1\n" + size(1), want: []string{"OWED E_BAD_MESSAGE DPUB failed to read message body"}},
}

func TestDpub(t *testing.T) { checkRows(t, dpubRows) }

func TestPub_Bytes(t *testing.T) {
	require.Equal(t, "PUB topic\n\x00\x00\x00\x05hello", string(AppendPub(nil, "topic", []byte("hello"))))
	require.Equal(t, "DPUB topic 1500\n\x00\x00\x00\x02hi", string(AppendDpub(nil, "topic", 1500*time.Millisecond, []byte("hi"))))
	require.Equal(t, "beforePUB t\n\x00\x00\x01\x00"+strings.Repeat("b", 256),
		string(AppendPub([]byte("before"), "t", []byte(strings.Repeat("b", 256)))))
}

func TestPub_Failed(t *testing.T) {
	for k, want := range map[Kind]string{
		KindPub: "E_PUB_FAILED PUB failed exiting", KindDpub: "E_DPUB_FAILED DPUB failed exiting",
		KindMpub: "E_MPUB_FAILED MPUB failed exiting", KindMpubHead: "E_MPUB_FAILED MPUB failed exiting",
	} {
		e := PublishFailed(k, "exiting")
		require.Equal(t, want, e.Error())
		require.True(t, e.Fatal)
	}
}

// A limit beyond what the signed size field can say refuses nothing but what is not positive.
func TestPub_HugeLimit(t *testing.T) {
	lim := testLimits
	lim.MaxMsgSize = 1 << 40
	for _, repeat := range []string{"", "PUB t\n" + size(1) + "x"} {
		c := newConversation(t, &lim, Policy{})
		c.arriveWhole(repeat + "PUB t\n\x7f\xff\xff\xffx")
		require.Equal(t, "E_BAD_MESSAGE PUB failed to read message body", c.owed())
		c = newConversation(t, &lim, Policy{})
		c.arriveWhole(repeat + "PUB t\n\x80\x00\x00\x00x")
		require.True(t, c.dead)
	}
}
