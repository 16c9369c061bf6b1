package httpapi

import (
	"bufio"
	"fmt"
	"math"
	"strconv"
	"strings"

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

// exposition writes metric families in the text format, one after the other, so that a scrape of many channels never holds all of them at once.
// What there are few of goes through the library; the series of topics and channels are written by hand: ten thousand channels, scraped every few
// seconds, must not be felt by who publishes.
type exposition struct {
	w    *bufio.Writer
	left int // series that may still be written for topics and channels
	err  error
}

func (x *exposition) family(f *dto.MetricFamily) {
	if x.err == nil && len(f.Metric) > 0 {
		_, x.err = expfmt.MetricFamilyToText(x.w, f)
	}
}

// labelSet are the labels of many series, "{topic=\"t\"} " and so on, one behind the other. Names of topics and channels need no escaping.
type labelSet struct {
	text []byte
	ends []int
}

func (l *labelSet) add(topic, channel string) {
	l.text = append(append(l.text, `{topic="`...), topic...)
	if channel != "" {
		l.text = append(append(l.text, `",channel="`...), channel...)
	}
	l.text = append(l.text, `"} `...)
	l.ends = append(l.ends, len(l.text))
}

// series writes one family: a value for each set of labels.
func (x *exposition) series(name, help string, kind dto.MetricType, labels *labelSet, value func(i int) float64) {
	if len(labels.ends) == 0 {
		return
	}
	line := fmt.Appendf(nil, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, strings.ToLower(kind.String()))
	start := 0
	for i, end := range labels.ends {
		line = append(append(line, name...), labels.text[start:end]...)
		start = end
		if v := value(i); v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			line = strconv.AppendInt(line, int64(v), 10)
		} else {
			line = strconv.AppendFloat(line, v, 'g', -1, 64)
		}
		line = append(line, '\n')
		if len(line) >= 64<<10 {
			line = x.put(line)
		}
	}
	x.put(line)
}

func (x *exposition) put(line []byte) []byte {
	if x.err == nil {
		_, x.err = x.w.Write(line)
	}
	return line[:0]
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

// showMetrics answers GET /metrics in the text format, which every scraper reads.
func showMetrics(s *Server, r *request) reply {
	r.ctx.SetContentType(string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	r.ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		x := &exposition{w: w, left: s.o.MaxSeries}
		s.expose(s, x)
		if x.err != nil {
			// The header is sent; a client that went away in the middle is no news for the operator.
			s.o.Log.Infof("metrics: the answer broke off - %s", x.err)
		}
	})
	return reply{direct: true}
}
