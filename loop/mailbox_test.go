package loop

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMailboxKeepsOrderAndRingsOnce(t *testing.T) {
	var rings int
	m := mailbox{ring: func() { rings++ }}
	jobs := make([]*slowJob, 3)
	for i := range jobs {
		jobs[i] = &slowJob{}
		require.True(t, m.post(letter{kind: letterSlow, job: jobs[i]}))
	}
	require.True(t, m.raise(flagAcks))
	require.Equal(t, 1, rings)

	letters, f := m.take()
	require.Equal(t, flagAcks, f)
	require.Len(t, letters, 3)
	for i := range jobs {
		require.Same(t, jobs[i], letters[i].job)
	}
	require.True(t, m.raise(flagTimer), "while the letters are being read")
	require.True(t, m.raise(flagTimer))
	require.True(t, m.post(letter{kind: letterWake}))
	require.Equal(t, 2, rings)
	m.done(letters)
	letters, f = m.take()
	require.Len(t, letters, 1)
	require.Equal(t, flagTimer, f)
}

// Everything posted before close is given out exactly once, nothing afterwards, and no bell rings once close is done.
func TestMailboxClose(t *testing.T) {
	var closed atomic.Bool
	var late atomic.Int32
	m := mailbox{ring: func() {
		if closed.Load() {
			late.Add(1)
		}
	}}
	var accepted, got atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for m.post(letter{kind: letterWake}) {
				accepted.Add(1)
			}
		})
	}
	for range 1000 {
		letters, _ := m.take()
		got.Add(int64(len(letters)))
		m.done(letters)
	}
	got.Add(int64(len(m.close())))
	closed.Store(true)
	wg.Wait()
	require.Equal(t, accepted.Load(), got.Load())
	require.Zero(t, late.Load())
	require.False(t, m.raise(flagTimer))
}

func TestMailboxAllocatesNothing(t *testing.T) {
	m := mailbox{ring: func() {}}
	pass := func() {
		for range 10 {
			m.post(letter{kind: letterWake})
		}
		letters, _ := m.take()
		m.done(letters)
	}
	pass()
	pass()
	require.Zero(t, testing.AllocsPerRun(100, pass))
}
