package loop

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPublishConsumeFinish(t *testing.T) {
	s := serve(t, nil)
	p := s.connect()
	p.publish("t", "one")
	c := s.connect()
	c.subscribe("t", "ch", 1)
	m := c.message()
	require.Equal(t, "one", string(m.Body))
	require.EqualValues(t, 1, m.Attempts)
	p.publish("t", "two", "three")
	c.wantSilence() // RDY 1 and one in flight
	c.fin(m)
	m = c.message()
	require.Equal(t, "two", string(m.Body))
	c.fin(m)
	require.Equal(t, "three", string(c.message().Body))
}
