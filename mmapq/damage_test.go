package mmapq

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// placed says where a stored message lies: its frame and its entry in a segment file.
type placed struct {
	message
	file              string
	from, to, atEntry int
}

func placesOf(l *Log) []placed {
	var list []placed
	for _, s := range *l.segs.Load() {
		for i := range s.count {
			f, off := s.frame(i), int(s.offset(i))
			list = append(list, placed{message{s.base + Pos(i), string(f[FrameHeader:])}, slotName(s.slot.id), off, off + len(f), s.entryAt(i)})
		}
	}
	return list
}

// clone copies a heap disk as a kill would leave it.
func (d *HeapDisk) clone() *HeapDisk {
	c := NewHeapDisk()
	for name, f := range d.files {
		g := &heapFile{buf: alignedBytes(len(f.buf))}
		copy(g.buf, f.buf)
		for off, w := range f.wins {
			if g.wins == nil {
				g.wins = map[int64][]byte{}
			}
			g.wins[off] = alignedBytes(len(w))
			copy(g.wins[off], w)
		}
		c.files[name] = g
	}
	return c
}

// change alters the bytes of a file of either disk.
func change(t testing.TB, d Disk, name string, f func(b []byte)) {
	t.Helper()
	if h, ok := d.(*HeapDisk); ok {
		f(h.files[name].buf)
		return
	}
	path := d.(*RealDisk).path(name)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	f(b)
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// scenes are logs of several segments, some of them in slots that had an earlier life, in the states that a kill can find them in.
var scenes = map[string]func(t testing.TB, st *Store, l *Log){
	"never synced": func(testing.TB, *Store, *Log) {},
	"synced":       func(_ testing.TB, st *Store, _ *Log) { st.sync.round() },
	"half synced": func(t testing.TB, st *Store, l *Log) {
		st.sync.round()
		appendAll(t, l, makeBodies(3, 0, 10, 700))
	},
}

func buildScene(t testing.TB, d Disk, finish func(testing.TB, *Store, *Log)) []placed {
	t.Helper()
	st := open(t, d, small)
	_, logs := newTopic(t, st, "t")
	l := logs[StreamMain]
	for i := range 30 {
		appendAll(t, l, makeBodies(1, 10*i, 10, 300+10*i))
	}
	l.Truncate(func(Pos, Pos) bool { return false })
	for i := range 25 {
		appendAll(t, l, makeBodies(2, 10*i, 10, 400+20*i))
	}
	appendAll(t, l, makeBodies(2, 1000, 3, 5))
	finish(t, st, l)
	require.Greater(t, len(*l.segs.Load()), 2)
	st.Abandon()
	return placesOf(l)
}

// damages change some bytes of one file.
var damages = map[string]func(r *rand.Rand, b []byte){
	"zeros from a place on": func(r *rand.Rand, b []byte) { clear(b[r.IntN(len(b)):]) },
	"zeros up to a place":   func(r *rand.Rand, b []byte) { clear(b[:r.IntN(len(b))]) },
	"page of zeros": func(r *rand.Rand, b []byte) {
		at := r.IntN(len(b)/4096) * 4096
		clear(b[at : at+4096])
	},
	"one bit": func(r *rand.Rand, b []byte) { b[r.IntN(len(b))] ^= 1 << r.IntN(8) },
	"many bits": func(r *rand.Rand, b []byte) {
		for range 100 {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
	},
	"words": func(r *rand.Rand, b []byte) {
		for range 1 + r.IntN(20) {
			to, from := r.IntN(len(b)/8)*8, r.IntN(len(b)/8)*8
			switch r.IntN(3) {
			case 0:
				clear(b[to : to+8])
			case 1:
				copy(b[to:to+8], bytes.Repeat([]byte{0xff}, 8))
			default:
				copy(b[to:to+8], b[from:from+8])
			}
		}
	},
	"entries swapped": func(r *rand.Rand, b []byte) {
		x, y := len(b)-16*(1+r.IntN(60)), len(b)-16*(1+r.IntN(60))
		t := slices.Clone(b[x : x+16])
		copy(b[x:x+16], b[y:y+16])
		copy(b[y:y+16], t)
	},
	"noise": func(r *rand.Rand, b []byte) {
		at := r.IntN(len(b))
		for i := range b[at:min(len(b), at+5000)] {
			b[at+i] = byte(r.Uint32())
		}
	},
	"a piece of itself elsewhere": func(r *rand.Rand, b []byte) {
		n := r.IntN(8000)
		copy(b[r.IntN(len(b)-n):], slices.Clone(b[r.IntN(len(b)-n):][:n]))
	},
}

// TestDamageCostsOnlyWhatItHits: whatever happens to a segment file while the daemon is down, the next starts never deliver a wrong body,
// deliver every message whose bytes are untouched at its old position, and give new messages new positions.
func TestDamageCostsOnlyWhatItHits(t *testing.T) {
	for name, finish := range scenes {
		t.Run(name, func(t *testing.T) {
			disk := NewHeapDisk()
			places := buildScene(t, disk, finish)
			for _, kind := range slices.Sorted(maps.Keys(damages)) {
				for seed := range uint64(5) {
					checkDamage(t, disk.clone(), places, fmt.Sprintf("%s, seed %d", kind, seed), rand.New(rand.NewPCG(seed, 1)), damages[kind])
				}
			}
		})
	}
	t.Run("on files", func(t *testing.T) {
		for _, kind := range slices.Sorted(maps.Keys(damages)) {
			d := NewRealDisk(t.TempDir())
			places := buildScene(t, d, scenes["half synced"])
			checkDamage(t, d, places, kind, rand.New(rand.NewPCG(99, 1)), damages[kind])
		}
	})
}

func checkDamage(t *testing.T, d Disk, places []placed, what string, r *rand.Rand, hurt func(*rand.Rand, []byte)) {
	t.Helper()
	file := places[r.IntN(len(places))].file
	want := map[message]bool{} // true: untouched
	change(t, d, file, func(b []byte) {
		before := slices.Clone(b)
		hurt(r, b)
		for _, p := range places {
			want[p.message] = p.file != file ||
				bytes.Equal(before[p.from:p.to], b[p.from:p.to]) && bytes.Equal(before[p.atEntry:p.atEntry+16], b[p.atEntry:p.atEntry+16])
		}
	})
	st, err := Open(d, small)
	require.NoError(t, err)
	for life := range 3 { // the first start finds the damage, the later ones find what the first made of it
		l := topic(t, st, "t").Logs[StreamMain]
		top := Pos(0)
		got := map[message]bool{}
		for _, m := range readAll(t, l) {
			if _, known := want[m]; !known {
				t.Fatalf("%s, life %d: position %d holds what was never stored there", what, life, m.pos)
			}
			got[m] = true
		}
		for m, untouched := range want {
			top = max(top, m.pos)
			if untouched && !got[m] {
				t.Fatalf("%s, life %d: message %d was not hit and is lost", what, life, m.pos)
			}
		}
		if life == 2 {
			break
		}
		// What is stored from now on is at new positions, and untouched.
		fresh := makeBodies(10+life, 0, 30, 3000)
		appendAll(t, l, fresh)
		added := readLog(t, l, top+1, l.Committed(), 256, 64<<10)
		require.Len(t, added, len(fresh), what)
		for i, m := range added {
			require.Equal(t, string(fresh[i]), m.body, what)
			want[m] = true
		}
		if life == 0 {
			st.sync.round()
		}
		st.Abandon()
		st, err = Open(d, small)
		require.NoError(t, err)
	}
	st.Abandon()
}

// tinyScenes are logs of three short messages, small enough to try every byte and bit.
var tinyScenes = map[string]int{"open, never synced": 0, "open, synced": 1, "sealed by a start, synced": 2}

// TestEveryByteOfASmallLog cuts at every byte, flips every bit and overwrites every word.
func TestEveryByteOfASmallLog(t *testing.T) {
	for name, rounds := range tinyScenes {
		t.Run(name, func(t *testing.T) {
			disk := NewHeapDisk()
			st := open(t, disk, small)
			_, logs := newTopic(t, st, "t")
			appendAll(t, logs[StreamMain], [][]byte{[]byte("1-1-5|"), []byte("1-2-5|"), []byte("1-3-5|")})
			for range rounds {
				st.sync.round()
				if rounds == 2 {
					st = reopen(t, st)
				}
			}
			l := logs[StreamMain]
			if rounds == 2 {
				l = topic(t, st, "t").Logs[StreamMain]
				st.sync.round()
			}
			places := placesOf(l)
			st.Abandon()
			require.Len(t, places, 3)
			require.Equal(t, rounds == 2, topic(t, open(t, disk.clone(), small), "t").Logs[StreamMain].unscanned(), "the scene is what it says")
			var offs []int
			for off := range 176 { // the header's first copy
				offs = append(offs, off)
			}
			for off := places[0].from; off < places[2].to; off++ {
				offs = append(offs, off)
			}
			for off := places[2].atEntry; off < 64<<10; off++ {
				offs = append(offs, off)
			}
			for _, off := range offs {
				checkHurt(t, disk, places, fmt.Sprintf("zeros from byte %d on", off), func(b []byte) { clear(b[off:]) })
				checkHurt(t, disk, places, fmt.Sprintf("byte %d flipped", off), func(b []byte) { b[off] ^= 1 << (off % 8) })
				if off%8 == 0 {
					checkHurt(t, disk, places, fmt.Sprintf("word %d all ones", off), func(b []byte) { copy(b[off:], "\xff\xff\xff\xff\xff\xff\xff\xff") })
					checkHurt(t, disk, places, fmt.Sprintf("word %d zero", off), func(b []byte) { clear(b[off : off+8]) })
				}
			}
		})
	}
}

// unscanned tells that a start took the first segment as it was.
func (l *Log) unscanned() bool { return (*l.segs.Load())[0].unscanned }

func checkHurt(t *testing.T, disk *HeapDisk, places []placed, what string, hurt func(b []byte)) {
	t.Helper()
	d := disk.clone()
	file := d.files[places[0].file].buf
	before := slices.Clone(file)
	hurt(file)
	st, err := Open(d, small)
	require.NoError(t, err)
	defer st.Abandon()
	got := map[message]bool{}
	for _, m := range readAll(t, topic(t, st, "t").Logs[StreamMain]) {
		got[m] = true
	}
	for _, p := range places {
		whole := bytes.Equal(before[p.from:p.to], file[p.from:p.to]) && bytes.Equal(before[p.atEntry:p.atEntry+16], file[p.atEntry:p.atEntry+16])
		if got[p.message] != whole {
			t.Fatalf("%s: message %d untouched %v, delivered %v", what, p.pos, whole, got[p.message])
		}
		delete(got, p.message)
	}
	require.Empty(t, got, what)
}
