package ledger

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// Key names a message of a run: the producer that sent it and that producer's running number, from 0.
type Key struct{ Producer, Counter uint32 }

// Bodies makes the body of every key and finds the key of a body. Key may accept what Append would never make: the ledger compares
// the whole body afterwards. Both are called by many goroutines.
type Bodies interface {
	Append(dst []byte, key Key) []byte
	Key(body []byte) (Key, bool)
}

// Padded makes bodies "producer-counter" and a space, followed by bytes that derive from seed, producer and counter, so that a body
// of another message, another run or another offset is recognised. Sizes derive from the key too: between Min and Max bytes, small
// ones more often (every doubling is as likely as the next). A body too short for its key is as long as the key.
type Padded struct {
	Seed     uint64
	Min, Max int
}

// Append implements Bodies.
func (p Padded) Append(dst []byte, key Key) []byte {
	start := len(dst)
	dst = strconv.AppendUint(dst, uint64(key.Producer), 10)
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, uint64(key.Counter), 10)
	dst = append(dst, ' ')
	state := p.Seed ^ uint64(key.Producer)<<32 ^ uint64(key.Counter)
	size := p.size(mix(&state))
	var word [8]byte
	for missing := size - (len(dst) - start); missing > 0; missing -= len(word) {
		binary.LittleEndian.PutUint64(word[:], mix(&state))
		dst = append(dst, word[:min(missing, len(word))]...)
	}
	return dst
}

func (p Padded) size(random uint64) int {
	if p.Max <= p.Min {
		return p.Min
	}
	share := float64(random>>11) / (1 << 53)
	low, high := math.Log(float64(max(1, p.Min))), math.Log(float64(p.Max))
	return int(math.Exp(low + share*(high-low)))
}

// mix is splitmix64: one step of the sequence that starts at *state.
func mix(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Key implements Bodies.
func (p Padded) Key(body []byte) (Key, bool) {
	producer, rest, ok := number(body, '-')
	if !ok {
		return Key{}, false
	}
	counter, _, ok := number(rest, ' ')
	return Key{Producer: producer, Counter: counter}, ok
}

// number reads decimal digits up to the byte end and returns what follows it.
func number(text []byte, end byte) (n uint32, rest []byte, ok bool) {
	at := bytes.IndexByte(text[:min(len(text), 11)], end)
	if at < 1 {
		return 0, nil, false
	}
	value := uint64(0)
	for _, digit := range text[:at] {
		if digit < '0' || digit > '9' {
			return 0, nil, false
		}
		value = value*10 + uint64(digit-'0')
	}
	return uint32(value), text[at+1:], value <= math.MaxUint32
}
