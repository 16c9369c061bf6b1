package codec

import (
	"encoding/json"
	"time"
)

// IDENTIFY\n[4 size][JSON]

// lineIdentify checks the line of an IDENTIFY, whose parameters are ignored.
func (s *Splitter) lineIdentify(pol Policy) *Error {
	if pol.State != StateInit {
		return errState(KindIdentify)
	}
	s.begin(KindIdentify)
	return nil
}

// IdentifyLimits bound what a client may ask for, and say what it gets when it does not ask (0 or absent): the
// configured default, or, on a repeated IDENTIFY, what the connection has. Intervals have millisecond resolution.
type IdentifyLimits struct {
	MaxHeartbeatInterval   time.Duration
	MinOutputBufferTimeout time.Duration
	MaxOutputBufferTimeout time.Duration
	MaxOutputBufferSize    int64 // bytes
	MaxMsgTimeout          time.Duration

	HeartbeatInterval   time.Duration // 0: off
	OutputBufferSize    int64         // bytes
	OutputBufferTimeout time.Duration // 0: no timed flush
	MsgTimeout          time.Duration
}

// DefaultIdentifyLimits are the values of the flags when none is given, for a connection without an IDENTIFY.
func DefaultIdentifyLimits() IdentifyLimits {
	return IdentifyLimits{
		MaxHeartbeatInterval:   time.Minute,
		MinOutputBufferTimeout: 25 * time.Millisecond,
		MaxOutputBufferTimeout: 30 * time.Second,
		MaxOutputBufferSize:    64 << 10,
		MaxMsgTimeout:          15 * time.Minute,
		HeartbeatInterval:      30 * time.Second,
		OutputBufferSize:       16 << 10,
		OutputBufferTimeout:    250 * time.Millisecond,
		MsgTimeout:             time.Minute,
	}
}

// Identify is an accepted IDENTIFY: what the client said of itself, what it asks for, and the values that hold from
// now on.
type Identify struct {
	ClientID, Hostname, UserAgent string
	TopologyRegion, TopologyZone  string

	FeatureNegotiation     bool // answer with JSON; without it the four below are ignored
	TLSv1, Deflate, Snappy bool // asked for
	DeflateLevel           int  // asked for, any value

	HeartbeatInterval   time.Duration // 0: off, and SUB is refused
	OutputBufferSize    int64         // bytes; 1 means unbuffered
	OutputBufferTimeout time.Duration // 0: no timed flush
	SampleRate          int32         // 0..99; 0 delivers everything
	MsgTimeout          time.Duration
}

// identifyJSON is the request. encoding/json gives exactly the rules wanted: keys match in any case, the last of equal
// keys wins, null is absent, integers must be literals that fit, unknown keys and surrounding space are ignored,
// anything after the value is an error.
type identifyJSON struct {
	ClientID            string `json:"client_id"`
	Hostname            string `json:"hostname"`
	UserAgent           string `json:"user_agent"`
	TopologyRegion      string `json:"topology_region"`
	TopologyZone        string `json:"topology_zone"`
	FeatureNegotiation  bool   `json:"feature_negotiation"`
	TLSv1               bool   `json:"tls_v1"`
	Deflate             bool   `json:"deflate"`
	DeflateLevel        int    `json:"deflate_level"`
	Snappy              bool   `json:"snappy"`
	HeartbeatInterval   int64  `json:"heartbeat_interval"`
	OutputBufferSize    int64  `json:"output_buffer_size"`
	OutputBufferTimeout int64  `json:"output_buffer_timeout"`
	SampleRate          int32  `json:"sample_rate"`
	MsgTimeout          int64  `json:"msg_timeout"`
}

// ParseIdentify decodes the body of an IDENTIFY and applies it. The first bad field, in the order of the checks below,
// refuses it, fatally.
func ParseIdentify(body []byte, lim IdentifyLimits) (Identify, *Error) {
	var req identifyJSON
	if err := json.Unmarshal(body, &req); err != nil {
		return Identify{}, errIdentify("failed to decode JSON body")
	}
	id := Identify{
		ClientID: req.ClientID, Hostname: req.Hostname, UserAgent: req.UserAgent,
		TopologyRegion: req.TopologyRegion, TopologyZone: req.TopologyZone,
		FeatureNegotiation: req.FeatureNegotiation,
		TLSv1:              req.TLSv1, Deflate: req.Deflate, Snappy: req.Snappy, DeflateLevel: req.DeflateLevel,
		HeartbeatInterval: lim.HeartbeatInterval, OutputBufferSize: lim.OutputBufferSize,
		OutputBufferTimeout: lim.OutputBufferTimeout, SampleRate: req.SampleRate, MsgTimeout: lim.MsgTimeout,
	}
	if ms := req.HeartbeatInterval; !applyMillis(ms, &id.HeartbeatInterval, time.Second, lim.MaxHeartbeatInterval) {
		return Identify{}, errIdentifyValue("heartbeat interval", ms)
	}
	if ms := req.OutputBufferTimeout; !applyMillis(ms, &id.OutputBufferTimeout,
		lim.MinOutputBufferTimeout, lim.MaxOutputBufferTimeout) {
		return Identify{}, errIdentifyValue("output buffer timeout", ms)
	}
	switch size := req.OutputBufferSize; {
	case size == -1: // every write is a flush, so that there is nothing to flush in time
		id.OutputBufferSize, id.OutputBufferTimeout = 1, 0
	case size == 0:
	case size >= 64 && size <= lim.MaxOutputBufferSize:
		id.OutputBufferSize = size
	default:
		return Identify{}, errIdentifyValue("output buffer size", size)
	}
	if rate := req.SampleRate; rate < 0 || rate > 99 {
		return Identify{}, errIdentifyValue("sample rate", int64(rate))
	}
	// Of the three times only this one cannot be switched off.
	if ms := req.MsgTimeout; ms == -1 || !applyMillis(ms, &id.MsgTimeout, time.Second, lim.MaxMsgTimeout) {
		return Identify{}, errIdentifyValue("msg timeout", ms)
	}
	return id, nil
}

// applyMillis sets *d to ms milliseconds if that is within [low, high] in whole milliseconds; -1 switches it off and 0
// leaves it.
func applyMillis(ms int64, d *time.Duration, low, high time.Duration) bool {
	switch {
	case ms == -1:
		*d = 0
	case ms == 0:
	case ms >= low.Milliseconds() && ms <= high.Milliseconds():
		*d = millis(ms)
	default:
		return false
	}
	return true
}

func errIdentify(what string) *Error { return fatal(CodeBadBody, "IDENTIFY "+what) }

func errIdentifyValue(what string, n int64) *Error {
	return errIdentify(what + " (" + itoa(n) + ") is invalid")
}

// IdentifyFailed is the refusal of an IDENTIFY whose upgrade failed, for example the TLS handshake.
func IdentifyFailed(reason string) *Error {
	return fatal(CodeIdentifyFailed, "IDENTIFY failed "+reason)
}

var errBothCompressions = fatal(CodeIdentifyFailed, "cannot enable both deflate and snappy compression")

// ServerInfo is what the daemon offers and reports in the IDENTIFY response.
type ServerInfo struct {
	Version                      string
	MaxRdyCount                  int64
	MaxMsgTimeout                time.Duration
	TLSv1, Deflate, Snappy       bool // offered
	MaxDeflateLevel              int
	AuthRequired                 bool
	TopologyRegion, TopologyZone string // of the server
}

// Grant is what both sides agreed on.
type Grant struct {
	TLSv1, Deflate, Snappy bool
	DeflateLevel           int // meaningful even without deflate: it is reported
}

// Negotiate settles the features of an IDENTIFY with feature negotiation. Both compressions at once are refused.
func Negotiate(id *Identify, srv *ServerInfo) (Grant, *Error) {
	g := Grant{
		TLSv1:        id.TLSv1 && srv.TLSv1,
		Deflate:      id.Deflate && srv.Deflate,
		Snappy:       id.Snappy && srv.Snappy,
		DeflateLevel: 6,
	}
	if g.Deflate && g.Snappy {
		return Grant{}, errBothCompressions
	}
	if g.Deflate && id.DeflateLevel > 0 {
		g.DeflateLevel = id.DeflateLevel
	}
	g.DeflateLevel = min(g.DeflateLevel, srv.MaxDeflateLevel)
	return g, nil
}

// identifyReply is the response; the order of the fields is the order of the keys.
type identifyReply struct {
	MaxRdyCount         int64  `json:"max_rdy_count"`
	Version             string `json:"version"`
	MaxMsgTimeout       int64  `json:"max_msg_timeout"`
	MsgTimeout          int64  `json:"msg_timeout"`
	TLSv1               bool   `json:"tls_v1"`
	Deflate             bool   `json:"deflate"`
	DeflateLevel        int    `json:"deflate_level"`
	MaxDeflateLevel     int    `json:"max_deflate_level"`
	Snappy              bool   `json:"snappy"`
	SampleRate          int32  `json:"sample_rate"`
	AuthRequired        bool   `json:"auth_required"`
	OutputBufferSize    int64  `json:"output_buffer_size"`
	OutputBufferTimeout int64  `json:"output_buffer_timeout"`
	TopologyRegion      string `json:"topology_region"`
	TopologyZone        string `json:"topology_zone"`
}

// AppendIdentifyResponse appends the JSON that answers an IDENTIFY with feature negotiation: the data of a response
// frame, without the frame.
func AppendIdentifyResponse(dst []byte, id *Identify, srv *ServerInfo, g Grant) []byte {
	data, err := json.Marshal(identifyReply{
		MaxRdyCount:         srv.MaxRdyCount,
		Version:             srv.Version,
		MaxMsgTimeout:       srv.MaxMsgTimeout.Milliseconds(),
		MsgTimeout:          id.MsgTimeout.Milliseconds(),
		TLSv1:               g.TLSv1,
		Deflate:             g.Deflate,
		DeflateLevel:        g.DeflateLevel,
		MaxDeflateLevel:     srv.MaxDeflateLevel,
		Snappy:              g.Snappy,
		SampleRate:          id.SampleRate,
		AuthRequired:        srv.AuthRequired,
		OutputBufferSize:    id.OutputBufferSize,
		OutputBufferTimeout: id.OutputBufferTimeout.Milliseconds(),
		TopologyRegion:      srv.TopologyRegion,
		TopologyZone:        srv.TopologyZone,
	})
	if err != nil {
		panic("BUG: a struct of numbers, bools and strings does not encode: " + err.Error())
	}
	return append(dst, data...)
}

// AppendIdentify appends an IDENTIFY with the given JSON.
func AppendIdentify(dst, body []byte) []byte { return appendBody(append(dst, "IDENTIFY\n"...), body) }
