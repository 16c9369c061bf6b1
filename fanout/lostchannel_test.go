package fanout

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/mmapq"
)

// A power cut can leave the record that opens a topic and not that of the channel it was opened for, which stands in front of it. What the topic
// held until then waits for the next channel.
func TestBacklogSurvivesTheRecordOfItsFirstChannel(t *testing.T) {
	disk := mmapq.NewHeapDisk()
	r := openRig(t, disk, mmapq.Options{}, Options{})
	r.pub(t, "t", "a", "b")
	r.sub(t, "t", "thechannel", 1, ConsumerOptions{})
	r.Abandon()

	manifest, err := disk.OpenFile(mmapq.ManifestName, false)
	require.NoError(t, err)
	size, err := manifest.Size()
	require.NoError(t, err)
	raw := make([]byte, size)
	_, err = manifest.ReadAt(raw, 0)
	require.NoError(t, err)
	at := bytes.Index(raw, []byte("thechannel"))
	require.Positive(t, at)
	_, err = manifest.WriteAt([]byte("X"), int64(at))
	require.NoError(t, err)
	require.NoError(t, manifest.Close())

	r = openRig(t, disk, mmapq.Options{}, Options{})
	defer func() { require.NoError(t, r.Close()) }()
	require.Positive(t, r.Recovered().LostBytes)
	require.Empty(t, r.LookupTopic("t").Channels())
	require.EqualValues(t, 2, r.LookupTopic("t").Stats().Depth)
	c := r.sub(t, "t", "again", 10, ConsumerOptions{})
	require.Equal(t, []string{"a", "b"}, bodies(c.takeAll(t)))
}
