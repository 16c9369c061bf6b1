package codec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var rdyRows = []row{
	{subscribed, "RDY\n", []string{"RDY 1"}},
	{subscribed, "RDY \n", []string{"RDY 0"}},
	{subscribed, "RDY 0\n", []string{"RDY 0"}},
	{subscribed, "RDY 2500 x\r\n", []string{"RDY 2500"}},
	{subscribed, "RDY 18446744073709551618\n", []string{"RDY 2"}},
	{subscribed, "RDY 2501\n", []string{"FATAL E_INVALID RDY count 2501 out of range 0-2500"}},
	{subscribed, "RDY 18446744073709551615\n", []string{"FATAL E_INVALID RDY count -1 out of range 0-2500"}},
	{subscribed, "RDY 9223372036854775808\n", []string{"FATAL E_INVALID RDY count -9223372036854775808 out of range 0-2500"}},
	{subscribed, "RDY +1\n", []string{"FATAL E_INVALID RDY could not parse count +1"}},
	{subscribed, "RDY -1\n", []string{"FATAL E_INVALID RDY could not parse count -1"}},
	{subscribed, "RDY 1\xff\n", []string{"FATAL E_INVALID RDY could not parse count 1\xff"}},
	{subscribed, "RDY 1\r\r\n", []string{"FATAL E_INVALID RDY could not parse count 1\r"}},
	{subscribed, "RDY /\n", []string{"FATAL E_INVALID RDY could not parse count /"}},
	{subscribed, "RDY :\n", []string{"FATAL E_INVALID RDY could not parse count :"}},
	{Policy{}, "RDY x\n", []string{"FATAL E_INVALID cannot RDY in current state"}},
	{closing, "RDY x\n", []string{"NOP"}}, // ignored, not even parsed
	{closing, "RDY 5\n", []string{"NOP"}},
}

func TestRdy(t *testing.T) { checkRows(t, rdyRows) }

func TestRdy_Bytes(t *testing.T) {
	require.Equal(t, "RDY 2500\n", string(AppendRdy(nil, 2500)))
	require.Equal(t, "RDY 0\n", string(AppendRdy(nil, 0)))
}
