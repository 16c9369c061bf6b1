package datapath

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
}

func TestLockExcludesASecondHolder(t *testing.T) {
	dir := t.TempDir()
	first, err := Acquire(dir)
	require.NoError(t, err)
	_, err = Acquire(dir)
	require.EqualError(t, err, "failed to lock data-path: cannot flock directory "+dir+
		" - resource temporarily unavailable (possibly in use by another instance of nsqd)")
	require.NoError(t, first.Release())
	second, err := Acquire(dir)
	require.NoError(t, err)
	require.NoError(t, second.Release())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the lock leaves no file")
}

func TestLockNeedsADirectory(t *testing.T) {
	_, err := Acquire("/does/not/exist")
	require.EqualError(t, err, "failed to lock data-path: open /does/not/exist: no such file or directory")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Acquire(file)
	require.EqualError(t, err, "failed to lock data-path: "+file+" is not a directory")
}

func TestStockQueues(t *testing.T) {
	const manifest = "ours.manifest"
	cases := []struct {
		name  string
		files map[string]string
		want  string // the amount in the refusal; "" = starts
	}{
		{"empty directory", nil, ""},
		{"metadata only", map[string]string{"nsqd.dat": "{}"}, ""},
		{"drained queues", map[string]string{"t.diskqueue.meta.dat": "0\n0,0\n0,0\n", "t:c.diskqueue.meta.dat": "0\n3,70\n3,70\n",
			"t:c.diskqueue.000003.dat": string(make([]byte, 70))}, ""},
		{"quarantined segment only", map[string]string{"t.diskqueue.000000.dat.bad": "x"}, ""},
		{"one message", map[string]string{"t.diskqueue.meta.dat": "1\n0,0\n0,3\n", "t.diskqueue.000000.dat": "abc"}, "1 message in 1 queue"},
		{"sum over queues", map[string]string{"t.diskqueue.meta.dat": "2\n0,0\n0,3\n", "t.diskqueue.000000.dat": "abc",
			"t:c.diskqueue.meta.dat": "40\n7,0\n9,3\n", "t:c.diskqueue.000007.dat": "abc", "t:c.diskqueue.000008.dat": "abc",
			"t:d.diskqueue.meta.dat": "0\n0,0\n0,0\n"}, "42 messages in 3 queues"},
		{"no meta file", map[string]string{"t.diskqueue.000000.dat": "abc"},
			"0 messages in 1 queue, and an unknown number more in 1 of them, whose meta file is missing or out of date"},
		{"unclean stop", map[string]string{"t.diskqueue.meta.dat": "5\n0,0\n0,3\n", "t.diskqueue.000000.dat": "abcdef"},
			"5 messages in 1 queue, and an unknown number more in 1 of them, whose meta file is missing or out of date"},
		{"negative count", map[string]string{"t.diskqueue.meta.dat": "-5\n0,0\n0,3\n", "t.diskqueue.000000.dat": "abc"},
			"0 messages in 1 queue, and an unknown number more in 1 of them, whose meta file is missing or out of date"},
		{"garbled meta file", map[string]string{"t.diskqueue.meta.dat": "what"},
			"0 messages in 1 queue, and an unknown number more in 1 of them, whose meta file is missing or out of date"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, c.files)
			err := RefuseStockQueues(dir, manifest)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, "data-path "+dir+" holds "+c.want+" of a stock nsqd, which this version does not import: "+
				"drain them with the stock nsqd first, or start with --ignore-stock-queues to leave them where they are")
			put(t, dir, map[string]string{manifest: ""})
			require.NoError(t, RefuseStockQueues(dir, manifest), "our manifest says somebody decided")
		})
	}
}
