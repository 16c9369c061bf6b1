package fanout

import "testing"

// BenchmarkLeaseInOrder is what one message costs in the lease when a client finishes in the order of delivery, ten runs in flight.
func BenchmarkLeaseInOrder(b *testing.B) {
	var l lease
	b.ReportAllocs()
	added, taken := uint64(0), uint64(0)
	for range b.N {
		for added-taken < 2500-runMax {
			l.addRun(added, runMax, 1, 2)
			added += runMax
		}
		if _, ok := l.take(taken); !ok {
			b.Fatal(taken)
		}
		taken++
	}
}

// BenchmarkLeaseScattered finishes far apart, so that no hint helps.
func BenchmarkLeaseScattered(b *testing.B) {
	const runs = 10
	var l lease
	b.ReportAllocs()
	for i := range b.N {
		k := uint64(i) % (runs * runMax)
		if k == 0 {
			for r := range uint64(runs) {
				l.addRun(r*runMax, runMax, 1, 2)
			}
		}
		if _, ok := l.take(k * 1009 % (runs * runMax)); !ok { // 1009 and 2560 have no common divisor
			b.Fatal(k)
		}
	}
}

// BenchmarkTouch moves a message's deadline again and again.
func BenchmarkTouch(b *testing.B) {
	var l lease
	l.addRun(0, runMax, 1, 2)
	b.ReportAllocs()
	for i := range b.N {
		id := uint64(i) % runMax
		if _, ok := l.take(id); !ok {
			b.Fatal(i)
		}
		l.addExc(id, 1, int64(i))
	}
}
