package cluster

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"
	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/stretchr/testify/require"
)

var (
	nsqdFlag    = flag.String("nsqd", "", "nsqd binary; empty builds ours")
	lookupdFlag = flag.String("lookupd", "", "nsqlookupd binary; empty builds ours")
)

// patience covers the 15 s after which a stock nsqd looks for a lost nsqlookupd.
const patience = 60 * time.Second

// rig starts daemons that can be killed and come back on the same addresses. Each rig has a loopback address of its own, so that no outgoing
// connection of anybody takes a port while its daemon is away.
type rig struct {
	t             *testing.T
	ip            string
	nsqd, lookupd string
}

func newRig(t *testing.T) *rig {
	paths, err := binaries()
	require.NoError(t, err)
	return &rig{t: t, ip: fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 2+rand.IntN(250)), nsqd: paths[0], lookupd: paths[1]}
}

// buildDir holds what binaries built; TestMain removes it.
var buildDir string

// binaries are the paths of nsqd and nsqlookupd, built if no flag names them.
var binaries = sync.OnceValues(func() (paths [2]string, err error) {
	if buildDir, err = os.MkdirTemp("", "cluster-"); err != nil {
		return paths, err
	}
	paths = [2]string{*nsqdFlag, *lookupdFlag}
	for i, pkg := range []string{daemon.Package, daemon.LookupPackage} {
		if paths[i] == "" {
			paths[i] = filepath.Join(buildDir, filepath.Base(pkg))
			if err := daemon.BuildPackage(context.Background(), paths[i], pkg); err != nil {
				return paths, err
			}
		}
	}
	return paths, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if err := os.RemoveAll(buildDir); err != nil {
		panic(err)
	}
	os.Exit(status)
}

func (r *rig) start(path, data string, args ...string) *daemon.Process {
	r.t.Helper()
	args = append([]string{"--tcp-address=" + r.ip + ":0", "--http-address=" + r.ip + ":0", "--broadcast-address=" + r.ip}, args...)
	p, err := daemon.Start(context.Background(), daemon.Options{Path: path, DataPath: data, Args: args})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, p.Kill()) })
	return p
}

// again starts what p was, on the same addresses.
func (r *rig) again(p *daemon.Process, path, data string, args ...string) *daemon.Process {
	r.t.Helper()
	return r.start(path, data, append([]string{"--tcp-address=" + p.TCPAddr, "--http-address=" + p.HTTPAddr}, args...)...)
}

// inbox collects bodies.
type inbox struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (b *inbox) HandleMessage(m *nsq.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[string(m.Body)] = true
	return nil
}

func (b *inbox) await(t *testing.T, body string) {
	t.Helper()
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.seen[body]
	}, patience, 5*time.Millisecond, "%q did not arrive", body)
}

func publish(t *testing.T, p *daemon.Process, topic, body string) {
	t.Helper()
	config := nsq.NewConfig()
	producer, err := nsq.NewProducer(p.TCPAddr, config)
	require.NoError(t, err)
	producer.SetLogger(nil, nsq.LogLevelMax)
	defer producer.Stop()
	require.NoError(t, producer.Publish(topic, []byte(body)))
}

// consume follows topic through nsqlookupd, which it asks several times a second.
func consume(t *testing.T, topic, channel, lookupd string) *inbox {
	t.Helper()
	config := nsq.NewConfig()
	config.LookupdPollInterval = 100 * time.Millisecond
	config.LookupdPollJitter = 0
	config.MaxInFlight = 10
	consumer, err := nsq.NewConsumer(topic, channel, config)
	require.NoError(t, err)
	consumer.SetLogger(nil, nsq.LogLevelMax)
	b := &inbox{seen: map[string]bool{}}
	consumer.AddHandler(b)
	require.NoError(t, consumer.ConnectToNSQLookupd(lookupd))
	t.Cleanup(func() {
		consumer.Stop()
		<-consumer.StopChan
	})
	return b
}

func TestConsumersSurviveTheDeathOfEverybody(t *testing.T) {
	r := newRig(t)
	lookupd := r.start(r.lookupd, "")
	first, second := t.TempDir(), t.TempDir()
	peer := "--lookupd-tcp-address=" + lookupd.TCPAddr
	a := r.start(r.nsqd, first, peer)

	publish(t, a, "topic", "before anybody asked")
	inbox := consume(t, "topic", "channel", lookupd.HTTPAddr)
	inbox.await(t, "before anybody asked")

	// Without nsqlookupd what is connected goes on, and an nsqd that starts now is found when it is back.
	require.NoError(t, lookupd.Kill())
	publish(t, a, "topic", "nsqlookupd is away")
	inbox.await(t, "nsqlookupd is away")
	b := r.start(r.nsqd, second, peer)
	publish(t, b, "topic", "on a second nsqd")
	lookupd = r.again(lookupd, r.lookupd, "")
	inbox.await(t, "on a second nsqd")

	// An nsqd that dies comes back by itself, and is found again.
	require.NoError(t, a.Kill())
	publish(t, b, "topic", "the first nsqd is away")
	inbox.await(t, "the first nsqd is away")
	a = r.again(a, r.nsqd, first, peer)
	publish(t, a, "topic", "the first nsqd is back")
	inbox.await(t, "the first nsqd is back")

	// Both at the same time.
	require.NoError(t, lookupd.Kill())
	require.NoError(t, b.Kill())
	lookupd = r.again(lookupd, r.lookupd, "")
	b = r.again(b, r.nsqd, second, peer)
	publish(t, b, "topic", "everybody is back")
	inbox.await(t, "everybody is back")
	for _, p := range []*daemon.Process{a, b, lookupd} {
		require.NoError(t, p.Stop(20*time.Second))
		require.False(t, p.Logged("panic"), "%s", p.Tail(40))
	}
}

// A topic that is new on an nsqd gets the channels it has elsewhere before its first message is delivered to anybody.
func TestChannelsOfTheClusterGetTheFirstMessage(t *testing.T) {
	r := newRig(t)
	lookupd := r.start(r.lookupd, "")
	peer := "--lookupd-tcp-address=" + lookupd.TCPAddr
	elsewhere := r.start(r.nsqd, t.TempDir(), peer)
	ctx := context.Background()
	require.NoError(t, elsewhere.API().CreateTopic(ctx, "topic", "archive", "metrics", "gone#ephemeral"))
	channels := func() string {
		text, err := lookupd.API().Get(ctx, "/channels", url.Values{"topic": {"topic"}})
		require.NoError(t, err)
		return string(text)
	}
	require.Eventually(t, func() bool {
		return strings.Contains(channels(), "archive") && strings.Contains(channels(), "metrics")
	}, patience, 5*time.Millisecond)

	fresh := r.start(r.nsqd, t.TempDir(), peer)
	require.Eventually(t, func() bool { return fresh.Logged("peer info") }, patience, 5*time.Millisecond)
	publish(t, fresh, "topic", "first")
	require.Eventually(t, func() bool {
		topic, err := fresh.API().Topic(ctx, "topic")
		return err == nil && len(topic.Channels) == 2 && topic.Channels[0].Depth == 1 && topic.Channels[1].Depth == 1
	}, patience, 5*time.Millisecond)
}
