package codec

import (
	"fmt"
	"testing"
)

// BenchmarkNext decodes pipelined commands; ns/command is the figure to look at. An MPUB counts its messages.
func BenchmarkNext(b *testing.B) {
	lim := DefaultLimits()
	inputs := hotInputs()
	for _, name := range []string{"PUB", "PUB two topics", "DPUB", "MPUB", "FIN", "REQ", "TOUCH", "RDY", "NOP"} {
		in := inputs[name]
		b.Run(name, func(b *testing.B) {
			var (
				s   Splitter
				cmd Command
			)
			s.Init(&lim)
			commands := decodeAll(b, &s, subscribed, &cmd, in)
			if name == "MPUB" {
				commands = len(cmd.Bodies)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				decodeAll(b, &s, subscribed, &cmd, in)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*commands), "ns/command")
		})
	}
}

// BenchmarkPieces decodes the same in reads that end anywhere, as a session does: only what is cut is copied.
func BenchmarkPieces(b *testing.B) {
	lim := DefaultLimits()
	inputs := hotInputs()
	for _, name := range []string{"PUB", "MPUB", "FIN"} {
		for _, read := range []int{1000, 4000} {
			in := inputs[name]
			b.Run(fmt.Sprintf("%s/%d", name, read), func(b *testing.B) {
				var (
					s     Splitter
					cmd   Command
					carry []byte
				)
				s.Init(&lim)
				b.ReportAllocs()
				b.SetBytes(int64(len(in)))
				for b.Loop() {
					for at := 0; at < len(in); at += read {
						carry = feed(b, &s, &cmd, carry, in[at:min(at+read, len(in))])
					}
				}
			})
		}
	}
}

// feed completes the command in carry, decodes the rest of data in place and keeps what is left over.
func feed(b *testing.B, s *Splitter, cmd *Command, carry, data []byte) []byte {
	next := func(p []byte) (int, bool) {
		n, ok, err := s.Next(p, subscribed, cmd)
		if err != nil {
			b.Fatal(err)
		}
		return n, ok
	}
	for len(carry) > 0 && len(data) > 0 {
		want := s.Want(len(carry), data)
		carry, data = append(carry, data[:want]...), data[want:]
		if _, ok := next(carry); ok {
			carry = carry[:0]
		}
	}
	for len(data) > 0 {
		n, ok := next(data)
		if !ok {
			return append(carry, data...)
		}
		data = data[n:]
	}
	return carry
}

func BenchmarkID(b *testing.B) {
	id := []byte("fedcba9876543210")
	b.Run("Parse", func(b *testing.B) {
		for b.Loop() {
			if _, ok := ParseID(id); !ok {
				b.Fatal("id")
			}
		}
	})
	b.Run("Append", func(b *testing.B) {
		buf := make([]byte, 0, IDLen)
		for b.Loop() {
			AppendID(buf, 0xfedcba9876543210)
		}
	})
}

func BenchmarkPutMessageHeader(b *testing.B) {
	buf := make([]byte, MessageHeader)
	id := uint64(0)
	for b.Loop() {
		PutMessageHeader(buf, 200, 1234567890, 1, id)
		id++
	}
}

func BenchmarkValidTopic(b *testing.B) {
	name := []byte("a_topic_name")
	for b.Loop() {
		if !ValidTopic(name) {
			b.Fatal("name")
		}
	}
}
