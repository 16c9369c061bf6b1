package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/valyala/fasthttp"
)

// cluster is a daemon with everything registered that the options say. Its methods belong to one goroutine.
type cluster struct {
	p     *daemon.Process
	o     options
	peers []*peer
	http  *fasthttp.HostClient
}

// peer is the connection of one nsqd. Used by one goroutine at a time.
type peer struct {
	net.Conn
	topics []int
}

func topicName(i int) string { return fmt.Sprintf("topic%d", i) }

func newCluster(p *daemon.Process, o options) (*cluster, error) {
	c := &cluster{p: p, o: o, http: &fasthttp.HostClient{Addr: p.HTTPAddr, MaxConns: 4 * o.connections, ReadTimeout: time.Minute}}
	for i := range o.peers {
		conn, err := net.Dial("tcp", p.TCPAddr)
		if err != nil {
			return c, err
		}
		c.peers = append(c.peers, &peer{Conn: conn})
		identity := fmt.Sprintf(`{"broadcast_address":"node%d.example","hostname":"node%d","http_port":4151,"tcp_port":4150,"version":"1.3.0"}`, i, i)
		hello := codec.AppendLookupCommand([]byte(codec.LookupMagic), codec.LookupIdentify)
		if _, err := conn.Write(codec.AppendLookupBody(hello, []byte(identity))); err != nil {
			return c, err
		}
		if err := c.peers[i].replies(1); err != nil {
			return c, err
		}
	}
	for i := range o.topics {
		for j := range o.producers {
			at := c.peers[(i+j*o.topics/o.producers)%o.peers]
			at.topics = append(at.topics, i)
		}
	}
	for _, p := range c.peers {
		var out []byte
		for _, t := range p.topics {
			out = codec.AppendLookupCommand(out, codec.LookupRegister, topicName(t), "channel")
		}
		if _, err := p.Write(out); err != nil {
			return c, err
		}
		if err := p.replies(len(p.topics)); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *cluster) close() error {
	c.http.CloseIdleConnections()
	var errs []error
	for _, p := range c.peers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// replies reads n replies.
func (p *peer) replies(n int) error {
	var size [4]byte
	for range n {
		if _, err := io.ReadFull(p, size[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, p, int64(binary.BigEndian.Uint32(size[:]))); err != nil {
			return err
		}
	}
	return nil
}

// churn takes channels back and registers them again at the wanted rate until stop is called, which returns what went wrong.
func (c *cluster) churn() (stop func() error) {
	done := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		began := time.Now()
		for n := 0; ; n++ {
			if wait := time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(max(c.o.registers, 1)))); wait > 0 {
				time.Sleep(wait)
			}
			select {
			case <-done:
				result <- nil
				return
			default:
			}
			if err := c.peers[n%len(c.peers)].again(n); err != nil {
				result <- err
				return
			}
		}
	}()
	return func() error {
		close(done)
		return <-result
	}
}

// again takes one channel back and registers it anew.
func (p *peer) again(n int) error {
	if len(p.topics) == 0 {
		return nil
	}
	topic := topicName(p.topics[n%len(p.topics)])
	out := codec.AppendLookupCommand(nil, codec.LookupUnregister, topic, "channel")
	if _, err := p.Write(codec.AppendLookupCommand(out, codec.LookupRegister, topic, "channel")); err != nil {
		return err
	}
	return p.replies(2)
}

// lookup asks for a random topic and checks that the answer is one.
func (c *cluster) lookup(rng *rand.Rand) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + c.p.HTTPAddr + "/lookup?topic=" + topicName(rng.IntN(c.o.topics)))
	if err := c.http.Do(req, resp); err != nil {
		return err
	}
	if resp.StatusCode() != fasthttp.StatusOK || len(resp.Body()) < 100*c.o.producers {
		return fmt.Errorf("lookup: status %d, %d bytes", resp.StatusCode(), len(resp.Body()))
	}
	return nil
}

// closedLoop asks as fast as the daemon answers and returns lookups per second.
func (c *cluster) closedLoop() (float64, error) {
	stop := c.churn()
	began := time.Now()
	counts := make([]int, c.o.connections)
	err := c.each(func(i int, rng *rand.Rand) error {
		for time.Since(began) < c.o.time {
			if err := c.lookup(rng); err != nil {
				return err
			}
			counts[i]++
		}
		return nil
	})
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(began).Seconds(), errors.Join(err, stop())
}

// each runs f once per connection.
func (c *cluster) each(f func(i int, rng *rand.Rand) error) error {
	errs := make([]error, c.o.connections)
	var running sync.WaitGroup
	for i := range errs {
		running.Go(func() { errs[i] = f(i, rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// result is what a steady load cost, per lookup where that makes sense.
type result struct {
	rate       float64
	gross, net time.Duration // CPU per lookup, with and without what the registrations alone cost
	p50, p99   time.Duration // from the moment a lookup was due to its answer
	anon       int64
}

// steady asks rate times a second, whether answers come or not.
func (c *cluster) steady(rate float64) (r result, err error) {
	stop := c.churn()
	defer func() { err = errors.Join(err, stop()) }()
	idle, err := c.cpuOf(func() error {
		time.Sleep(c.o.time)
		return nil
	})
	if err != nil {
		return r, err
	}
	perConnection := int(rate * c.o.time.Seconds() / float64(c.o.connections))
	times := make([][]time.Duration, c.o.connections)
	var took time.Duration
	busy, err := c.cpuOf(func() error {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		return c.each(func(i int, rng *rand.Rand) error {
			for n := range perConnection {
				due := began.Add(time.Duration(float64(n*c.o.connections+i) / rate * float64(time.Second)))
				time.Sleep(time.Until(due))
				if err := c.lookup(rng); err != nil {
					return err
				}
				times[i] = append(times[i], time.Since(due))
			}
			return nil
		})
	})
	if err != nil {
		return r, err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	memory, err := c.p.Memory()
	if err != nil || len(all) == 0 {
		return r, errors.Join(err, errors.New("no lookups"))
	}
	n := time.Duration(len(all))
	idle = time.Duration(float64(idle) * took.Seconds() / c.o.time.Seconds())
	return result{
		rate: float64(len(all)) / took.Seconds(), gross: busy / n, net: max(0, busy-idle) / n,
		p50: all[len(all)/2], p99: all[len(all)*99/100], anon: memory.Anon,
	}, nil
}

// cpuOf is what the daemon spent while f ran.
func (c *cluster) cpuOf(f func() error) (time.Duration, error) {
	before, err := c.p.CPU()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := c.p.CPU()
	return after - before, err
}
