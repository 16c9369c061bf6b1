package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPartOfTheCorpus is the short form of the command.
func TestPartOfTheCorpus(t *testing.T) {
	nsqd := filepath.Join(t.TempDir(), "nsqd")
	if err := daemon.Build(context.Background(), nsqd); err != nil {
		t.Fatal("no nsqd to send it through: ", err)
	}
	lines := 40000
	if testing.Short() {
		lines = 4000
	}
	root, err := goSource(context.Background())
	require.NoError(t, err)
	text, err := readText(root, lines)
	require.NoError(t, err)
	require.Len(t, text.ends, lines)
	var out strings.Builder
	o := options{nsqd: nsqd, channels: 3, consumers: 3, producers: 4, requeue: 50, out: &out}
	err = o.run(context.Background(), text)
	t.Log(out.String())
	require.NoError(t, err)
}

func TestTextAndDeal(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"a.go": "package a\n\n\r\n  \nx", "b.txt": "no", "b/c.go": "", "b/d.go": "\nlast: line\n",
	} {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	want := []string{"1: package a", "2: \r", "3:   ", "4: x", "5: last: line"}
	text, err := readText(root, 0)
	require.NoError(t, err)
	require.Len(t, text.ends, len(want))

	d := deal{text: text, producers: 3}
	require.Equal(t, []int{2, 2, 1}, []int{d.lines(0), d.lines(1), d.lines(2)})
	for n, line := range want {
		key := ledger.Key{Producer: uint32(n % 3), Counter: uint32(n / 3)}
		require.Equal(t, line, string(d.Append(nil, key)))
		got, ok := d.Key([]byte(line))
		require.True(t, ok)
		require.Equal(t, key, got)
	}
	for _, body := range []string{"", ":", "0: x", "6: x", "x: y", "1234567890123: x", "-1: x"} {
		_, ok := d.Key([]byte(body))
		require.False(t, ok, body)
	}

	text, err = readText(root, 2)
	require.NoError(t, err)
	require.Len(t, text.ends, 2)
	_, err = readText(filepath.Join(root, "none"), 0)
	require.Error(t, err)
}
