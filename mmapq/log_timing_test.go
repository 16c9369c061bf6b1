package mmapq

import (
	"errors"
	"testing"
)

func benchmarkAppend(b *testing.B, size, batch int) {
	st, err := Open(NewRealDisk(b.TempDir()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	_, logs, err := st.CreateTopic("t", false)
	if err != nil {
		b.Fatal(err)
	}
	l := logs[0]
	bodies := make([][]byte, batch)
	for i := range bodies {
		bodies[i] = make([]byte, size)
	}
	if _, err := l.AppendWait(bodies, 1, 0); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		n, _, err := l.Append(bodies, 1, 0)
		if errors.Is(err, ErrWouldBlock) {
			_, err = l.AppendWait(bodies[n:], 1, 0)
		}
		if err != nil {
			b.Fatal(err)
		}
		if done%8192 == 0 {
			at := l.Committed()
			l.Truncate(func(_, to Pos) bool { return to > at })
		}
	}
}

func BenchmarkAppend200x200(b *testing.B) { benchmarkAppend(b, 200, 200) }
func BenchmarkAppend1x200(b *testing.B)   { benchmarkAppend(b, 200, 1) }
func BenchmarkAppend16K(b *testing.B)     { benchmarkAppend(b, 16<<10, 4) }
