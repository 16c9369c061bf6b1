package mmapq

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Appending to an open segment allocates nothing. A large batch that goes out by write costs one allocation, not one for each message.
func TestAppendAllocations(t *testing.T) {
	onDisks(t, func(t *testing.T, d Disk) {
		_, logs := newTopic(t, open(t, d, Options{}), "t")
		l := logs[0]
		for _, test := range []struct {
			batch, rounds int
			allowed       float64
		}{{1, 500, 0}, {2, 500, 0}, {200, 20, 1}} {
			batch, rounds := test.batch, test.rounds
			bodies := make([][]byte, batch)
			for i := range bodies {
				bodies[i] = make([]byte, 200)
			}
			for room := 0; room < 2*rounds*batch*(200+FrameHeader+entrySize); {
				_, err := l.AppendWait(bodies, 1, 0) // rolls, and segments grow
				require.NoError(t, err)
				l.mu.Lock()
				room = l.open.room()
				l.mu.Unlock()
			}
			require.LessOrEqual(t, testing.AllocsPerRun(rounds, func() {
				if n, _, err := l.Append(bodies, 1, 0); err != nil || n != batch {
					t.Error(n, err)
				}
			}), test.allowed, "a batch of %d", batch)
		}
	})
}
