// Command bench puts this project's nsqd beside any other one and prints what both cost, as Markdown.
//
//	go run ./perf/bench -peer PATH [-ours PATH] [-runs 3] [-only REGEXP] [-scale 1] [-quick] [-tls] [-snappy] [-profile cpu]
//
// Subjects take turns on every workload, in most of them three: ours; the peer with --mem-queue-size=1000000, where it keeps everything in
// its memory and loses it when it is killed; and the peer with --mem-queue-size=0, where it writes everything to disk, the nearest it has
// to our promise. Each turn is a fresh process on a fresh data path. Workloads of throughput have two passes, cold (the first since exec) and
// warm (the second, after what the first one left was deleted), or a warm one only, after an unmeasured tenth of it. All runs are reported
// as median and range, with the floor that ours must reach and whether it does.
//
// The figure to look at is broker CPU per message: the time all threads of the daemon spent on a processor, ended ones included, from the
// clock of the process. It counts from exec in the cold pass of publishing workloads, so that preparing memory and files ahead is paid for,
// and goes on for -settle after the last message, so that a sync that is due then is paid for too. Machine busy is what all processors did
// beside the load generator: the kernel's own threads are in it, and whatever else ran. Messages per second are of the wall clock, on a
// machine that the load generator shares, and mean less. Latencies count from when a message was due by its schedule.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

type options struct {
	ours, peer string
	oursArgs   []string
	peerArgs   []string
	runs       int
	quick      bool
	only       *regexp.Regexp
	scale      float64
	size       int
	settle     time.Duration
	dir        string
	tls        bool
	snappy     bool
	profile    string // kind; empty is none
	profileDir string
	svg        string
	out        io.Writer // the tables
	progress   io.Writer // a line for every figure

	link      client.Link // to all subjects
	layerArgs []string    // flags the link needs
}

// What -quick makes of -runs and -scale.
const (
	quickRuns  = 1
	quickScale = 0.25
)

func main() {
	if role := os.Getenv(roleVar); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := raiseDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	o := options{out: os.Stdout, progress: os.Stderr}
	var only, oursArgs, peerArgs string
	var list bool
	flag.StringVar(&o.peer, "peer", "", "the nsqd to compare with; without one ours is measured alone")
	flag.StringVar(&o.ours, "ours", "", "our nsqd; without one, cmd/nsqd is built")
	flag.StringVar(&peerArgs, "peer-args", "", "more flags for the peer, separated by spaces")
	flag.StringVar(&oursArgs, "ours-args", "", "more flags for ours, separated by spaces")
	flag.IntVar(&o.runs, "runs", 3, "turns of each subject on each workload")
	flag.BoolVar(&o.quick, "quick", false, "one turn each, on a quarter of the messages, without the peer on disk: a first look, not a comparison")
	flag.StringVar(&only, "only", "", "regular expression: workloads whose name it matches")
	flag.BoolVar(&list, "list", false, "print the names of the workloads and end")
	flag.Float64Var(&o.scale, "scale", 1, "multiplies messages, connections, topics and durations of every workload")
	flag.IntVar(&o.size, "size", 200, "bytes of a body")
	flag.DurationVar(&o.settle, "settle", 2200*time.Millisecond, "how long CPU is counted after the last message; the default covers one --sync-timeout")
	flag.StringVar(&o.dir, "dir", "", "where to put data paths; empty is the directory for temporary files")
	flag.BoolVar(&o.tls, "tls", false, "V2 connections use TLS 1.3, with a certificate made for this run")
	flag.BoolVar(&o.snappy, "snappy", false, "V2 connections use snappy")
	flag.StringVar(&o.profile, "profile", "", "profile this program and ours, never the peer: cpu, mem, mutex, block or trace")
	flag.StringVar(&o.profileDir, "profile-dir", "profiles", "where -profile writes: this program's on top, ours in a directory for each turn")
	flag.StringVar(&o.svg, "svg", "", "file for a picture of the ratios")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(only); err != nil || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if list {
		for _, w := range workloads {
			fmt.Printf("%-14s %s\n", w.name, w.title)
		}
		return
	}
	if o.quick {
		o.runs, o.scale = quickRuns, quickScale
	}
	o.oursArgs, o.peerArgs = strings.Fields(oursArgs), strings.Fields(peerArgs)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "bench-run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.ours == "" {
		o.ours = filepath.Join(dir, "nsqd")
		if err := daemon.Build(ctx, o.ours); err != nil {
			return err
		}
	}
	if err := o.putOnLayers(dir); err != nil {
		return err
	}
	if o.profile != "" {
		if o.profileDir, err = filepath.Abs(o.profileDir); err != nil {
			return err
		}
		stop, err := startProfile(o.profile, o.profileDir)
		if err != nil {
			return err
		}
		defer stop()
	}
	results, err := measureAll(ctx, o)
	if err != nil {
		return err
	}
	if o.svg != "" {
		if err := os.WriteFile(o.svg, []byte(drawing(o, results)), 0o644); err != nil {
			return err
		}
	}
	return writeMarkdown(ctx, o, results)
}
