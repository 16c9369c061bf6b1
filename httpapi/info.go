package httpapi

import (
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

// Node is what /info tells about this daemon.
type Node struct {
	BroadcastAddress       string
	HTTPPort, TCPPort      int // bound ports; -1 = unix socket
	MaxHeartbeatInterval   time.Duration
	MaxOutputBufferSize    int64
	MaxOutputBufferTimeout time.Duration
	MaxDeflateLevel        int
	TopologyZone           string
	TopologyRegion         string
}

// ping answers with the broker's health, which is that of the last write to disk.
func ping(s *Server, _ *request) reply {
	if err := s.o.Broker.Health(); err != nil {
		return reply{status: fasthttp.StatusInternalServerError, body: []byte(health(err)), bare: true}
	}
	answer := okReply
	answer.bare = true
	return answer
}

// health is the broker's health in words.
func health(err error) string {
	if err != nil {
		return "NOK - " + err.Error()
	}
	return "OK"
}

// info keeps the order of its fields: it is part of the API.
func info(s *Server, _ *request) reply {
	hostname, err := os.Hostname()
	if err != nil {
		return fail(fasthttp.StatusInternalServerError, "INTERNAL_ERROR")
	}
	n := &s.o.Node
	return jsonReply(struct {
		Version                string        `json:"version"`
		BroadcastAddress       string        `json:"broadcast_address"`
		Hostname               string        `json:"hostname"`
		HTTPPort               int           `json:"http_port"`
		TCPPort                int           `json:"tcp_port"`
		StartTime              int64         `json:"start_time"`
		MaxHeartbeatInterval   time.Duration `json:"max_heartbeat_interval"`
		MaxOutputBufferSize    int64         `json:"max_output_buffer_size"`
		MaxOutputBufferTimeout time.Duration `json:"max_output_buffer_timeout"`
		MaxDeflateLevel        int           `json:"max_deflate_level"`
		TopologyZone           string        `json:"topology_zone"`
		TopologyRegion         string        `json:"topology_region"`
	}{
		s.o.Version, n.BroadcastAddress, hostname, n.HTTPPort, n.TCPPort, s.o.StartTime.Unix(), n.MaxHeartbeatInterval,
		n.MaxOutputBufferSize, n.MaxOutputBufferTimeout, n.MaxDeflateLevel, n.TopologyZone, n.TopologyRegion,
	})
}
