package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// How long the HTTP listener waits for a header, and for the first part of a body; both from the first byte of the request.
const requestTime = 30 * time.Second

// How much of a body of a terabyte is offered, and how much of that the kernel's buffers and the draining before a close may take.
const (
	hugeOffer  = 64 << 20
	hugeTaken  = 32 << 20
	answerTime = 5 * time.Second
)

var httpAttacks = []attack{
	{name: "HTTP: bodies of a terabyte", http: true, clients: 30, pause: 50 * time.Millisecond, whole: time.Second, life: hugeBody},
	{name: "HTTP: bodies without an end", http: true, clients: 30, pause: 50 * time.Millisecond, whole: time.Second, life: endlessBody},
	{name: "HTTP: slow headers and bodies", http: true, clients: 1000, pause: time.Second, whole: requestTime + closingTime + 2*time.Second, life: slowRequest},
	{name: "HTTP: a thousand requests at once", http: true, clients: 50, window: 1, pause: 50 * time.Millisecond, life: pipeline},
	{name: "HTTP: random requests", http: true, clients: 20, pause: 5 * time.Millisecond, life: babbleHTTP},
}

// hugeBody must be told 413 before it has sent a byte of its body. One that sends all the same is not listened to for long.
func hugeBody(v victim) {
	if !v.send([]byte("POST /pub?topic=target HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n")) {
		return
	}
	if v.id%3 > 0 {
		v.answered("413")
		return
	}
	piece := make([]byte, 256<<10)
	for sent := 0; sent < hugeOffer; sent += len(piece) {
		if !v.send(piece) {
			if v.ctx.Err() == nil && sent < hugeTaken {
				v.f.found(nil)
			}
			return
		}
		if sent >= hugeTaken {
			v.f.found(fmt.Errorf("%d MiB of a body that is too long were taken", sent>>20))
			return
		}
	}
}

// endlessBody sends chunks until there is an answer: 413, once it is longer than a message may be.
func endlessBody(v victim) {
	v.send([]byte("POST /pub?topic=target HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"))
	chunk := append([]byte("4000\r\n"), make([]byte, 0x4000+2)...)
	copy(chunk[len(chunk)-2:], "\r\n")
	for range 1<<20/0x4000 + 1 {
		if !v.send(chunk) {
			break
		}
	}
	v.answered("413")
}

// answered judges the status of the answer to the request that was sent last.
func (v victim) answered(status string) {
	if v.SetReadDeadline(time.Now().Add(answerTime)) != nil {
		return
	}
	in := make([]byte, 64)
	n, err := v.Read(in)
	switch {
	case v.ctx.Err() != nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		v.f.found(fmt.Errorf("no answer within %s", answerTime))
	case err != nil:
		v.f.found(fmt.Errorf("instead of an answer: %w", err))
	case !strings.HasPrefix(string(in[:n]), "HTTP/1.1 "+status):
		v.f.found(fmt.Errorf("the answer is %.40q, not %s", in[:n], status))
	default:
		v.f.found(nil)
	}
}

// slowRequest does not get to the end of its header, or of its body.
func slowRequest(v victim) {
	head := "POST /pub?topic=target HTTP/1.1\r\nHost: x\r\n"
	switch v.id % 4 {
	case 1:
		head = head[:1+v.rand.IntN(20)]
	case 2:
		head += "Content-Length: 1000\r\n\r\nhalf a bo"
	case 3:
		head += "Transfer-Encoding: chunked\r\n\r\n"
	}
	if v.send([]byte(head)) {
		v.closedWithin(requestTime, 2*time.Second)
	}
}

var requests = bytes.Repeat([]byte("GET /stats?format=json HTTP/1.1\r\nHost: x\r\n\r\n"), 1000)

// pipeline asks a lot and reads nothing.
func pipeline(v victim) {
	if v.send(requests) {
		v.wait(2 * time.Second)
	}
	v.reset()
}

// babbleHTTP damages requests.
func babbleHTTP(v victim) {
	paths := []string{"/pub?topic=fuzz%23ephemeral", "/mpub?topic=fuzz%23ephemeral&binary=true", "/stats?format=json", "/topic/pause?topic=fuzz", "/config/log_level",
		"/channel/create?topic=fuzz%23ephemeral&channel=a%23ephemeral", "/%%%", "/../../etc", "/info", "*"}
	methods := []string{"GET", "POST", "PUT", "HEAD", "DELETE", "", "P\x00ST"}
	var out []byte
	for range 1 + v.rand.IntN(5) {
		from := len(out)
		out = fmt.Appendf(out, "%s %s HTTP/1.%d\r\nHost: x\r\nContent-Length: %d\r\n\r\n\x00\x00\x00\x01\x00\x00\x00\x01xyz",
			methods[v.rand.IntN(len(methods))], paths[v.rand.IntN(len(paths))], v.rand.IntN(3), v.rand.IntN(14)-1)
		if v.rand.IntN(3) == 0 {
			out = damage(v, out, from)
		}
	}
	if v.send(out) && v.SetReadDeadline(time.Now().Add(200*time.Millisecond)) == nil {
		v.untilClosed()
	}
	v.reset()
}
