package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary plays the daemon when this variable is set; its value says how it behaves.
const roleVar = "DAEMON_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

// play listens on both ports, prints nsqd's two lines and waits for SIGTERM.
func play(role string) int {
	if role == "refuse" {
		fmt.Fprintln(os.Stderr, "[nsqd] 2026/01/02 03:04:05.000000 FATAL: failed to instantiate nsqd - no")
		return 1
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 3
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 3
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/stats", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"topics": []TopicStats{
			{Name: "t", Depth: 3, Channels: []ChannelStats{{Name: "c", Depth: 1, InFlight: 2, Deferred: 4}}},
		}})
	})
	mux.HandleFunc("/topic/create", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("topic") != "t" {
			http.Error(w, "INVALID_TOPIC", http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/channel/create", func(http.ResponseWriter, *http.Request) {})
	go func() { _ = http.Serve(web, mux) }()
	if role != "deaf" {
		fmt.Fprintf(os.Stderr, "[nsqd] 2026/01/02 03:04:05.000000 INFO: HTTP: listening on %s\n", web.Addr())
		fmt.Fprintf(os.Stderr, "[nsqd] 2026/01/02 03:04:05.000001 INFO: TCP: listening on %s\n", tcp.Addr())
	}
	if role == "busy" {
		go func() {
			for i := 0; ; i++ {
				_ = i
			}
		}()
	}
	if role == "shortlived" {
		for range 10 {
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
				var used unix.Timespec // processor time: on a busy machine a spin by the clock may use none
				for used.Nano() < int64(40*time.Millisecond) {
					if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
						panic(err)
					}
				}
			}()
		}
	}
	<-terminate
	if role == "stubborn" {
		select {}
	}
	fmt.Fprintln(os.Stderr, "bye")
	return 0
}

func start(t *testing.T, role string) *Process {
	t.Helper()
	p, err := Start(context.Background(), Options{Path: os.Args[0], DataPath: t.TempDir(), Env: []string{roleVar + "=" + role}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	return p
}

func TestStartLearnsTheAddressesAndStopIsClean(t *testing.T) {
	p := start(t, "good")
	conn, err := net.Dial("tcp", p.TCPAddr)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NotEqual(t, p.TCPAddr, p.HTTPAddr)
	require.NoError(t, p.Stop(10*time.Second))
	require.True(t, p.Logged("bye"))
	require.Contains(t, p.Tail(1), "bye")
}

func TestStartFailsWhenTheDaemonRefuses(t *testing.T) {
	_, err := Start(context.Background(), Options{Path: os.Args[0], DataPath: t.TempDir(), Env: []string{roleVar + "=refuse"}})
	require.ErrorContains(t, err, "exit status 1")
	require.ErrorContains(t, err, "failed to instantiate nsqd - no")
}

func TestStartGivesUpOnADeafDaemon(t *testing.T) {
	_, err := Start(context.Background(), Options{
		Path: os.Args[0], DataPath: t.TempDir(), Env: []string{roleVar + "=deaf"}, Ready: 50 * time.Millisecond,
	})
	require.ErrorContains(t, err, "does not listen")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Start(ctx, Options{Path: os.Args[0], DataPath: t.TempDir(), Env: []string{roleVar + "=deaf"}})
	require.ErrorIs(t, err, context.Canceled)

	_, err = Start(context.Background(), Options{Path: filepath.Join(t.TempDir(), "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestKillAndStubbornStop(t *testing.T) {
	p := start(t, "good")
	require.NoError(t, p.Kill())
	require.ErrorContains(t, p.ExitError(), "killed")
	require.NoError(t, p.Kill())

	p = start(t, "stubborn")
	require.ErrorContains(t, p.Stop(50*time.Millisecond), "not ended")
	<-p.Done()
}

func TestCPUAndMemory(t *testing.T) {
	p := start(t, "busy")
	before, err := p.CPU()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		after, err := p.CPU()
		return err == nil && after > before+20*time.Millisecond
	}, 20*time.Second, 5*time.Millisecond)
	memory, err := p.Memory()
	require.NoError(t, err)
	require.Greater(t, memory.Anon, int64(100<<10))
	require.NoError(t, p.Kill())
	_, err = p.CPU()
	require.Error(t, err)
	_, err = p.Memory()
	require.Error(t, err)
}

// A thread that ends takes its schedstat with it, but not its time out of the clock of the process.
func TestCPUKeepsEndedThreads(t *testing.T) {
	p := start(t, "shortlived")
	const spun = 20 * time.Millisecond
	require.Eventually(t, func() bool {
		all, err := p.CPU()
		require.NoError(t, err)
		live, err := LiveThreadsCPU(p.PID())
		require.NoError(t, err)
		return all > live+spun
	}, 20*time.Second, 5*time.Millisecond, "the threads of the child spin for %v and end", spun)

	p = start(t, "good") // the Go runtime keeps its threads: both accounts agree
	live, err := LiveThreadsCPU(p.PID())
	require.NoError(t, err)
	all, err := p.CPU()
	require.NoError(t, err)
	require.InDelta(t, live, all, float64(50*time.Millisecond))
}

func TestBusyGrows(t *testing.T) {
	before, err := Busy()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		after, err := Busy()
		return err == nil && after >= before+20*time.Millisecond
	}, 20*time.Second, time.Microsecond)
}

func TestAPI(t *testing.T) {
	api := start(t, "good").API()
	ctx := context.Background()
	topic, err := api.Topic(ctx, "t")
	require.NoError(t, err)
	require.EqualValues(t, 3, topic.Depth)
	require.EqualValues(t, 7, topic.Channels[0].Open())
	_, err = api.Topic(ctx, "other")
	require.ErrorContains(t, err, "does not name topic other")
	require.NoError(t, api.CreateTopic(ctx, "t", "c"))
	require.ErrorContains(t, api.CreateTopic(ctx, "x"), "400 Bad Request INVALID_TOPIC")
	require.ErrorContains(t, api.DeleteTopic(ctx, "t"), "404")
}
