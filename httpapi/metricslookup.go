package httpapi

import "github.com/nsqloop/nsqloop/lookupd"

// censusSeries is what is told of every topic: one series each.
var censusSeries = []struct {
	name, help string
	value      func(c *lookupd.Census) int
}{
	{"nsqlookupd_topic_producers", "nsqds that a lookup of the topic shows.", func(c *lookupd.Census) int { return c.Producers }},
	{"nsqlookupd_topic_tombstoned", "nsqds that a tombstone hides.", func(c *lookupd.Census) int { return c.Tombstoned }},
	{"nsqlookupd_topic_channels", "Channels of the topic.", func(c *lookupd.Census) int { return c.Channels }},
}

// expose writes everything nsqlookupd tells.
func (l *lookupAPI) expose(s *Server, x *exposition) {
	s.exposeProcess(x, "nsqlookupd")
	if l.connections != nil {
		open, refused := l.connections()
		x.single("nsqlookupd_connections", "Open connections of nsqds.", gauge, float64(open))
		x.single("nsqlookupd_connections_refused_total", "Connections closed at once since start: there were too many.", counter, float64(refused))
	}
	x.single("nsqlookupd_peers", "Connections that have identified themselves.", gauge, float64(l.registry.Peers()))
	topics := l.registry.Census()
	x.single("nsqlookupd_topics", "Topics.", gauge, float64(len(topics)))
	most := min(len(topics), x.left/len(censusSeries))
	x.single("nsqlookupd_omitted_series", "Series of topics beyond --metrics-max-series, which are left out.", gauge,
		float64((len(topics)-most)*len(censusSeries)))
	var labels labelSet
	for i := range most {
		labels.add(topics[i].Topic, "")
	}
	for _, series := range censusSeries {
		x.series(series.name, series.help, gauge, &labels, func(i int) float64 { return float64(series.value(&topics[i])) })
	}
}
