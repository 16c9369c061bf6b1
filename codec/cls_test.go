package codec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var clsRows = []row{
	{subscribed, "CLS\n", []string{"CLS"}},
	{subscribed, "CLS x\nCLS\n", []string{"CLS", "FATAL E_INVALID cannot CLS in current state"}},
	{Policy{}, "CLS\n", []string{"FATAL E_INVALID cannot CLS in current state"}},
	{Policy{}, "NOP\n", []string{"NOP"}},
	{subscribed, "NOP\n", []string{"NOP"}},
	{closing, "NOP x\n", []string{"NOP"}},
}

func TestCls(t *testing.T) { checkRows(t, clsRows) }

func TestCls_Bytes(t *testing.T) {
	require.Equal(t, "CLS\nNOP\n", string(AppendNop(AppendCls(nil))))
}
