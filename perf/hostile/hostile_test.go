package main

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Short attacks on our own binary: nothing leaks, memory is bounded, every honest message arrives. How fast, a busy machine decides.
func TestShortAttacks(t *testing.T) {
	var out bytes.Buffer
	o := options{length: 300 * time.Millisecond, factor: 2, floor: time.Minute, memory: 64 << 20, rate: 200, short: true, out: &out}
	o.only, o.most = regexp.MustCompile("resets|claims|random c|TLS|slow s|fuzz|names|descriptor"), 500
	require.NoError(t, run(t.Context(), o))
	require.Equal(t, 2+6+2*2, strings.Count(out.String(), "\n"), out.String())
	o.only, o.most = regexp.MustCompile("terabyte|random r"), slack-2 // goroutines that wait for further requests are no leak
	require.NoError(t, run(t.Context(), o))
	require.Equal(t, 2+6+2*2+2+2, strings.Count(out.String(), "\n"), out.String())
	t.Log("\n" + out.String())
	for _, limits := range []func(*options){
		func(o *options) { o.floor, o.factor = time.Nanosecond, 0 },
		func(o *options) { o.memory = -1 },
	} {
		o.only, o.length = regexp.MustCompile("resets"), 200*time.Millisecond
		strict := o
		limits(&strict)
		require.ErrorContains(t, run(t.Context(), strict), "resets in the middle: ")
	}
}

// Every attack does something to a socket, and ends with its context.
func TestEveryAttackConnectsAndEnds(t *testing.T) {
	d, err := startDiscard()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, a := range slices.Concat(attacks, httpAttacks) {
		require.False(t, names[a.name], "two attacks are called %q", a.name)
		names[a.name] = true
		ctx, cancel := context.WithCancel(t.Context())
		a.clients = min(a.clients, 50)
		f := startFlood(ctx, d.addr(), a)
		require.Eventually(t, func() bool { return f.opened.Load() > 0 }, 20*time.Second, time.Millisecond, a.name)
		cancel()
		f.wait()
		require.Positive(t, f.opened.Load(), a.name)
	}
	require.NoError(t, d.close())
}
