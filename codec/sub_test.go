package codec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var subRows = []row{
	{in: "SUB t c\n", want: []string{"SUB t c"}},
	{in: "SUB a.B-9_#ephemeral " + longestName + " x\r\n", want: []string{"SUB a.B-9_#ephemeral " + longestName}},
	{in: "SUB\n", want: []string{"FATAL E_INVALID SUB insufficient number of parameters"}},
	{in: "SUB t\n", want: []string{"FATAL E_INVALID SUB insufficient number of parameters"}},
	{in: "SUB $\n", want: []string{"FATAL E_INVALID SUB insufficient number of parameters"}},
	{in: "SUB $ $\n", want: []string{`FATAL E_BAD_TOPIC SUB topic name "$" is not valid`}},
	{in: "SUB  c\n", want: []string{`FATAL E_BAD_TOPIC SUB topic name "" is not valid`}},
	{in: "SUB t \n", want: []string{`FATAL E_BAD_CHANNEL SUB channel name "" is not valid`}},
	{in: "SUB t #ephemeral\n", want: []string{`FATAL E_BAD_CHANNEL SUB channel name "#ephemeral" is not valid`}},
	{subscribed, "SUB t c\n", []string{"FATAL E_INVALID cannot SUB in current state"}},
	{closing, "SUB\n", []string{"FATAL E_INVALID cannot SUB in current state"}},
	{Policy{HeartbeatsOff: true}, "SUB\n", []string{"FATAL E_INVALID cannot SUB with heartbeats disabled"}},
	{Policy{HeartbeatsOff: true, State: StateSubscribed}, "SUB\n", []string{"FATAL E_INVALID cannot SUB in current state"}},
}

func TestSub(t *testing.T) { checkRows(t, subRows) }

func TestSub_Bytes(t *testing.T) {
	require.Equal(t, "SUB topic channel#ephemeral\n", string(AppendSub(nil, "topic", "channel#ephemeral")))
}

func TestSub_Failed(t *testing.T) {
	require.Equal(t, "E_SUB_FAILED SUB failed exiting", SubFailed("exiting").Error())
	require.True(t, SubFailed("exiting").Fatal)
}
