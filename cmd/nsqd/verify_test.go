package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/cmd/internal/datapath"
	"github.com/nsqloop/nsqloop/mmapq"
)

func runVerify(dir string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run([]string{"--verify=" + dir}, &out, &errs, nil)
	return status, out.String(), errs.String()
}

func TestVerifyExitStatus(t *testing.T) {
	dir := t.TempDir()
	st, err := mmapq.Open(mmapq.NewRealDisk(dir), mmapq.Options{})
	require.NoError(t, err)
	meta, logs, err := st.CreateTopic("orders", false)
	require.NoError(t, err)
	_, _, _, err = st.CreateChannel(meta, "billing", [2]mmapq.Pos{logs[0].Committed(), logs[1].Committed()}, false)
	require.NoError(t, err)
	_, err = logs[0].AppendWait([][]byte{[]byte("one"), []byte("two")}, 1, 0)
	require.NoError(t, err)
	require.NoError(t, st.Close())

	status, stdout, stderr := runVerify(dir)
	require.Equal(t, 0, status, stderr)
	require.Contains(t, stdout, "TOPIC(orders): 1 segments, 2 messages, 0 damaged, 0 never completed\n  CHANNEL(billing): 2 waiting, 0 to come again, 0 finished\n")
	require.Contains(t, stdout, "\nclean\n")

	lock, err := datapath.Acquire(dir)
	require.NoError(t, err)
	status, stdout, stderr = runVerify(dir)
	require.Equal(t, 2, status)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "possibly in use by another instance of nsqd")
	require.NoError(t, lock.Release())

	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	require.NoError(t, err)
	require.NotEmpty(t, segments)
	for _, path := range segments {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		at := bytes.Index(b, []byte("two"))
		if at < 0 {
			continue
		}
		b[at] ^= 1
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	status, stdout, _ = runVerify(dir)
	require.Equal(t, 1, status, stdout)
	require.Contains(t, stdout, "1 messages, 1 damaged")
	require.Contains(t, stdout, "DAMAGED: nsqloop.")
	require.Contains(t, stdout, "damaged: 1 findings\n")

	status, _, stderr = runVerify(filepath.Join(dir, "none"))
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "no such file")
}
