package loop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/fanout"
	"github.com/nsqloop/nsqloop/mmapq"
)

func TestListenAddresses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nsqd.sock")
	s := serve(t, func(o *Options) { o.Addresses = []string{"127.0.0.1:0", path} })
	addrs := s.Addrs()
	require.NotZero(t, addrs[0].(*net.TCPAddr).Port)
	require.Equal(t, path, addrs[1].String())
	require.Equal(t, 1, s.log.count("TCP: listening on "+addrs[0].String()))
	for _, addr := range addrs {
		c := dialAddr(t, addr)
		c.send(codec.MagicV2)
		c.publish("t", "x")
	}
	require.EqualValues(t, 2, s.Counters().Accepted)
}

func TestListenFailure(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	b := openBroker(t, mmapq.NewHeapDisk(), mmapq.SyncInterval)
	defer func() { require.NoError(t, b.Close()) }()
	opt := testOptions()
	opt.Addresses = []string{"127.0.0.1:0", taken.Addr().String()}
	s, err := New(b, opt)
	require.NoError(t, err)
	require.ErrorContains(t, s.Start(), "address already in use")
	require.NoError(t, s.Stop(), "nothing is left to stop")
}

func TestConnectionCap(t *testing.T) {
	s := serve(t, func(o *Options) { o.MaxConnections = 3 })
	var inside []*client
	for range 3 {
		c := s.connect()
		c.publish("t", "x")
		inside = append(inside, c)
	}
	for range 5 {
		c := s.dial()
		c.wantClosed()
	}
	require.Equal(t, Counters{Open: 3, Accepted: 3, Refused: 5}, s.Counters())
	require.NoError(t, inside[0].Close())
	eventually(t, "closed", func() bool { return s.Counters().Open == 2 })
	c := s.connect()
	c.publish("t", "x")
	inside[1].publish("t", "x")
}

// failingListener fails so many times before it accepts.
type failingListener struct {
	net.Listener
	failures atomic.Int32
	err      error
}

func (f *failingListener) Accept() (net.Conn, error) {
	if f.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", f.err)}
	}
	return f.Listener.Accept()
}

// Running out of descriptors, or any other trouble of accept, is waited out with one line in the log.
func TestAcceptSurvivesFailures(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		t.Run(errno.Error(), func(t *testing.T) {
			ln := &failingListener{err: errno}
			ln.failures.Store(4)
			s := serveWith(t, mmapq.SyncInterval, nil, func(s *Server) {
				s.listen = func(network, addr string) (net.Listener, error) {
					var err error
					ln.Listener, err = net.Listen(network, addr)
					return ln, err
				}
			})
			start := time.Now()
			c := s.connect()
			c.publish("t", "x")
			require.GreaterOrEqual(t, time.Since(start)+10*time.Millisecond, (5+10+20+40)*time.Millisecond, "backs off")
			eventually(t, "logged", func() bool { return s.log.count("accepting again") == 1 })
			require.Equal(t, 1, s.log.count("cannot accept"))
		})
	}
	t.Run("stops while it waits", func(t *testing.T) {
		ln := &failingListener{err: syscall.EMFILE}
		ln.failures.Store(1 << 30)
		s := serveWith(t, mmapq.SyncInterval, nil, func(s *Server) {
			s.listen = func(network, addr string) (net.Listener, error) {
				var err error
				ln.Listener, err = net.Listen(network, addr)
				return ln, err
			}
		})
		eventually(t, "backs off", func() bool { return ln.failures.Load() < 1<<30-5 })
		require.NoError(t, s.Stop())
	})
}

// The real thing, in a process of its own with few descriptors: it survives, serves those who are in, and lets others
// in as soon as it can.
func TestOutOfDescriptors(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=few-descriptors")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, in.Close()) // tells it to stop
		require.NoError(t, cmd.Wait())
	}()
	var addr string
	_, err = fmt.Fscanln(out, &addr)
	require.NoError(t, err)
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	require.NoError(t, err)

	first := dialAddr(t, tcp)
	first.send(codec.MagicV2)
	first.publish("t", "x")
	var crowd []*client
	for range 2 * childDescriptors {
		c := dialAddr(t, tcp) // the kernel takes it, whatever the server does
		_, err := c.Write([]byte(codec.MagicV2 + "PUB t\n\x00\x00\x00\x01x"))
		if err != nil { // refused
			continue
		}
		crowd = append(crowd, c)
	}
	line := func() (text string) {
		_, err := fmt.Fscanln(out, &text)
		require.NoError(t, err)
		return text
	}
	require.Equal(t, "full", line())
	first.publish("t", "y")
	for _, c := range crowd {
		_ = c.Close()
	}
	require.Equal(t, "again", line())
	// It goes on with whom it could not take before; each new client is served in the end.
	late := dialAddr(t, tcp)
	late.send(codec.MagicV2)
	late.publish("t", "z")
	first.publish("t", "z")
}

const childDescriptors = 60

// childFewDescriptors serves with few descriptors until its input ends.
func childFewDescriptors() error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: childDescriptors, Max: childDescriptors}); err != nil {
		return err
	}
	b, err := fanout.Open(mmapq.NewHeapDisk(), mmapq.Options{}, fanout.Options{})
	if err != nil {
		return err
	}
	opt := testOptions()
	opt.Loops = 2
	opt.Log = func(_ LogLevel, format string, _ ...any) {
		switch {
		case strings.Contains(format, "cannot accept"):
			fmt.Println("full")
		case strings.Contains(format, "accepting again"):
			fmt.Println("again")
		}
	}
	s, err := New(b, opt)
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	fmt.Println(s.Addrs()[0])
	if _, err := os.Stdin.Read(make([]byte, 1)); err == nil {
		return errors.New("input?")
	}
	return errors.Join(s.Stop(), b.Close())
}

func TestPeerHost(t *testing.T) {
	for remote, want := range map[string]string{"127.0.0.1:80": "127.0.0.1", "[::1]:5": "::1", "@": "", "": ""} {
		require.Equal(t, want, peerHost(remote))
	}
}
