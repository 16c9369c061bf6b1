package httpapi

import (
	"bufio"
	"net/http"

	"github.com/nsqloop/nsqloop/fanout"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"
)

// Traffic are figures of the event loops for /metrics. Counts are since start, but for Connections.
type Traffic struct {
	Connections        int64 // open now
	Accepted           int64
	RefusedConnections int64             // too many, or no descriptor
	Panics             int64             // faults of ours, each of which cost one connection at most
	Errors             map[string]uint64 // error answers by code
	Answer             fanout.DurationCounts
}

// exposition writes metric families one after the other, so that a scrape of many channels never holds all of them at once.
type exposition struct {
	out  expfmt.Encoder
	left int // series that may still be written for topics and channels
	err  error
}

func (x *exposition) family(f *dto.MetricFamily) {
	if x.err == nil && len(f.Metric) > 0 {
		x.err = x.out.Encode(f)
	}
}

func newFamily(name, help string, kind dto.MetricType) *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String(name), Help: proto.String(help), Type: kind.Enum()}
}

// add appends one value to a family of gauges or counters.
func add(f *dto.MetricFamily, labels []*dto.LabelPair, value float64) {
	m := &dto.Metric{Label: labels}
	if f.GetType() == dto.MetricType_COUNTER {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
	f.Metric = append(f.Metric, m)
}

// single writes a family of one value without labels.
func (x *exposition) single(name, help string, kind dto.MetricType, value float64) {
	f := newFamily(name, help, kind)
	add(f, nil, value)
	x.family(f)
}

// histogram writes durations as a histogram in seconds.
func (x *exposition) histogram(name, help string, c fanout.DurationCounts) {
	h := &dto.Histogram{}
	total := uint64(0)
	for i := range fanout.DurationBuckets {
		total += c.Counts[i]
		h.Bucket = append(h.Bucket, &dto.Bucket{
			UpperBound: proto.Float64(float64(fanout.DurationBound(i)) / 1e9), CumulativeCount: proto.Uint64(total),
		})
	}
	h.SampleCount = proto.Uint64(total + c.Counts[fanout.DurationBuckets])
	h.SampleSum = proto.Float64(float64(c.Sum) / 1e9)
	f := newFamily(name, help, dto.MetricType_HISTOGRAM)
	f.Metric = []*dto.Metric{{Histogram: h}}
	x.family(f)
}

func label(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: proto.String(name), Value: proto.String(value)}
}

// processRegistry knows the figures of the process and the Go runtime, under their usual names.
func processRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	return r
}

// metrics answers GET /metrics in the format the client asks for, the text format by default.
func showMetrics(s *Server, r *request) reply {
	format := expfmt.Negotiate(http.Header{"Accept": []string{string(r.ctx.Request.Header.Peek("Accept"))}})
	r.ctx.SetContentType(string(format))
	r.ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		x := &exposition{out: expfmt.NewEncoder(w, format), left: s.o.MaxSeries}
		s.expose(s, x)
		if closer, ok := x.out.(expfmt.Closer); ok && x.err == nil {
			x.err = closer.Close()
		}
		if x.err != nil {
			// The header is sent; a client that went away in the middle is no news for the operator.
			s.o.Log.Infof("metrics: the answer broke off - %s", x.err)
		}
	})
	return reply{direct: true}
}
