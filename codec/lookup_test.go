package codec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseLookupLine(t *testing.T) {
	for line, want := range map[string]LookupCommand{
		"PING\n":             {"PING", []string{}},
		"PING x  y\r\n":      {"PING", []string{"x", "", "y"}},
		" \tREGISTER a b \n": {"REGISTER", []string{"a", "b"}},
		"\n":                 {"", []string{}},
	} {
		require.Equal(t, want, ParseLookupLine([]byte(line)), "%q", line)
	}
}

func TestLookupTarget(t *testing.T) {
	cases := []struct {
		params         []string
		topic, channel string
		err            string
	}{
		{[]string{"t"}, "t", "", ""},
		{[]string{"t", ""}, "t", "", ""},
		{[]string{"t", "", "c"}, "t", "", ""},
		{[]string{"t#ephemeral", "c#ephemeral", "x"}, "t#ephemeral", "c#ephemeral", ""},
		{nil, "", "", "E_INVALID REGISTER insufficient number of params"},
		{[]string{"", "c"}, "", "", "E_BAD_TOPIC REGISTER topic name '' is not valid"},
		{[]string{"a#b", "!"}, "", "", "E_BAD_TOPIC REGISTER topic name 'a#b' is not valid"},
		{[]string{"t", "!"}, "", "", "E_BAD_CHANNEL REGISTER channel name '!' is not valid"},
	}
	for _, c := range cases {
		topic, channel, err := LookupCommand{LookupRegister, c.params}.Target()
		if c.err != "" {
			require.EqualError(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []string{c.topic, c.channel}, []string{topic, channel})
	}
}

func TestAppendLookup(t *testing.T) {
	require.Equal(t, "xREGISTER t c\n", string(AppendLookupCommand([]byte("x"), LookupRegister, "t", "c")))
	require.Equal(t, "UNREGISTER t\n", string(AppendLookupCommand(nil, LookupUnregister, "t", "")))
	require.Equal(t, "PING\n", string(AppendLookupCommand(nil, LookupPing)))
	require.Equal(t, "\x00\x00\x00\x02OK", string(AppendLookupBody(nil, []byte("OK"))))
}
