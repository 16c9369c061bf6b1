package fanout

import (
	"testing"

	"github.com/nsqloop/nsqloop/mmapq"
	"github.com/stretchr/testify/require"
)

// A topic that is starting takes publishes and shows them to nobody; every channel made meanwhile gets all of them.
func TestStartingTopicHoldsItsMessages(t *testing.T) {
	for _, name := range []string{"t", "t#ephemeral"} {
		var asked []string
		r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{Starting: func(t *Topic) bool {
			asked = append(asked, t.Name())
			return true
		}})
		r.pub(t, name, "a", "b")
		first := r.sub(t, name, "first", 10, ConsumerOptions{})
		second := r.sub(t, name, "second", 10, ConsumerOptions{})
		r.pub(t, name, "c")
		topic := r.LookupTopic(name)
		require.False(t, first.Channel().claimable())
		require.EqualValues(t, 3, topic.Stats().Depth, "held at the topic")
		require.NoError(t, topic.SetPaused(true))
		require.NoError(t, topic.SetPaused(false))
		require.False(t, second.Channel().claimable(), "unpausing does not start it")
		topic.Start()
		topic.Start()
		topic.AwaitStart()
		for _, c := range []*Consumer{first, second} {
			require.EqualValues(t, 3, c.Channel().Stats().Depth)
			require.True(t, c.Channel().claimable())
		}
		r.pub(t, name, "d")
		require.EqualValues(t, 4, first.Channel().Stats().Depth)
		require.Equal(t, []string{name}, asked, "asked once, when it was created")
		require.NoError(t, r.Close())
	}
}

func TestStartingEndsWithTheTopicOrWithoutChannels(t *testing.T) {
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{Starting: func(*Topic) bool { return true }})
	r.pub(t, "gone", "a")
	gone := r.LookupTopic("gone")
	_, err := r.DeleteTopic("gone")
	require.NoError(t, err)
	gone.Start()
	gone.AwaitStart()

	r.pub(t, "t", "a")
	topic := r.LookupTopic("t")
	topic.Start()
	require.EqualValues(t, 1, topic.Stats().Depth)
	require.EqualValues(t, 1, r.sub(t, "t", "c", 1, ConsumerOptions{}).Channel().Stats().Depth, "the first channel gets the backlog")
	require.NoError(t, r.Close())
}

// A kill while a topic starts must not leave it held for ever.
func TestStartingDoesNotSurviveAKill(t *testing.T) {
	starting := Options{Starting: func(*Topic) bool { return true }}
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, starting)
	r.pub(t, "t", "a", "b")
	r.sub(t, "t", "c", 1, ConsumerOptions{})
	r = r.crash(t, mmapq.Options{}, starting)
	ch := r.LookupTopic("t").LookupChannel("c")
	require.EqualValues(t, 2, ch.Stats().Depth)
	require.True(t, ch.claimable())
	require.NoError(t, r.Close())
}

func TestAnnounce(t *testing.T) {
	var got []string
	r := openRig(t, mmapq.NewHeapDisk(), mmapq.Options{}, Options{Announce: func(topic, channel string) { got = append(got, topic+"/"+channel) }})
	r.pub(t, "t", "a")
	r.sub(t, "t", "c", 1, ConsumerOptions{})
	r.sub(t, "t", "d", 1, ConsumerOptions{})
	_, err := r.LookupTopic("t").DeleteChannel("c")
	require.NoError(t, err)
	_, err = r.DeleteTopic("t")
	require.NoError(t, err)
	require.Equal(t, []string{"t/", "t/c", "t/d", "t/c", "t/d", "t/"}, got)
	require.NoError(t, r.Close())
}
