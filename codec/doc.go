// Package codec turns bytes into commands and values into frames. It knows the V2 wire format and nothing else: no
// sockets, no clock, no project package. Everything is a pure function of its arguments, except Splitter, which holds
// the decoding state of one connection and belongs to that connection's event loop.
//
// Client to server:
//
//	"  V2"                                              once, first
//	NAME[ param]*[\r]\n                                 IDENTIFY AUTH SUB RDY FIN REQ TOUCH CLS NOP PUB DPUB MPUB
//	[4 size][bytes]                                     body of IDENTIFY, AUTH, PUB, DPUB
//	[4 size][4 count] then count times [4 size][bytes]  body of MPUB
//
// Server to client:
//
//	[4 size = 4 + len(data)][4 type][data]              type 0 response, 1 error, 2 message
//	data of a message: [8 timestamp ns][2 attempts][16 hex id][body]
//
// All integers are big-endian. Every refusal is an *Error that carries the text the client sees, to the byte.
//
// Reading order: limits.go, errors.go, split.go, then one file per command.
package codec
