package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/valyala/fasthttp"
)

// This program also plays servers that do as good as nothing, for comparison: what they cost is the price of HTTP itself.
const (
	roleVar = "BENCH_ROLE" // which one; empty is the bench
	fileVar = "BENCH_FILE" // what roleFile answers

	roleEmpty = "empty" // answers OK to everything
	roleFile  = "file"  // answers with the bytes of a file
)

// play serves until SIGTERM. Like an nsqd it says where it listens, and like one it is killed in the end.
func play(role string) error {
	reply := []byte("OK")
	if role == roleFile {
		var err error
		if reply, err = os.ReadFile(os.Getenv(fileVar)); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "HTTP: listening on %s\nTCP: listening on nothing\n", listener.Addr())
	server := fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) { ctx.Response.SetBodyRaw(reply) }, MaxRequestBodySize: 16 << 20,
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	<-terminate
	return errors.Join(server.Shutdown(), <-served)
}

// emptyName is the column of roleEmpty.
const emptyName = "empty fasthttp handler"

// emptyServer is this program in that role.
func emptyServer() subject {
	path, err := os.Executable()
	if err != nil {
		panic(err) // Linux always knows
	}
	return subject{name: emptyName, path: path, env: []string{roleVar + "=" + roleEmpty}}
}
