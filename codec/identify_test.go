package codec

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var identifyRows = []row{
	{in: "IDENTIFY\n" + size(2) + "{}", want: []string{`IDENTIFY "{}"`}},
	{in: "IDENTIFY any thing \r\n" + size(2) + "{}IDENTIFY\n" + size(4) + "null", want: []string{`IDENTIFY "{}"`, `IDENTIFY "null"`}},
	{in: "IDENTIFY\n" + size(4) + "junk", want: []string{`IDENTIFY "junk"`}}, // the JSON is not looked at here
	{in: "IDENTIFY\n" + size(400) + strings.Repeat(" ", 400), want: []string{`IDENTIFY "` + strings.Repeat(" ", 400) + `"`}},
	{subscribed, "IDENTIFY\n", []string{"FATAL E_INVALID cannot IDENTIFY in current state"}},
	{closing, "IDENTIFY\n", []string{"FATAL E_INVALID cannot IDENTIFY in current state"}},
	{in: "IDENTIFY\n\x00", want: []string{"OWED E_BAD_BODY IDENTIFY failed to read body size"}},
	{in: "IDENTIFY\n" + size(401), want: []string{"FATAL E_BAD_BODY IDENTIFY body too big 401 > 400"}},
	{in: "IDENTIFY\n" + size(0), want: []string{"FATAL E_BAD_BODY IDENTIFY invalid body size 0"}},
	{in: "IDENTIFY\n" + size(-1), want: []string{"FATAL E_BAD_BODY IDENTIFY invalid body size -1"}},
	{in: "IDENTIFY\n" + size(2) + "{", want: []string{"OWED E_BAD_BODY IDENTIFY failed to read body"}},
}

func TestIdentify_Line(t *testing.T) { checkRows(t, identifyRows) }

func TestIdentify_Bytes(t *testing.T) {
	require.Equal(t, "IDENTIFY\n\x00\x00\x00\x02{}", string(AppendIdentify(nil, []byte("{}"))))
}

// defaultIdentify is what an IDENTIFY without any field gives.
func defaultIdentify() Identify {
	return Identify{
		HeartbeatInterval: 30 * time.Second, OutputBufferSize: 16384, OutputBufferTimeout: 250 * time.Millisecond,
		MsgTimeout: time.Minute,
	}
}

func TestIdentify_Fields(t *testing.T) {
	for body, change := range map[string]func(*Identify){
		`{}`:                                                    func(*Identify) {},
		`null`:                                                  func(*Identify) {},
		" \t\r\n{ } \n":                                         func(*Identify) {},
		`{"unknown":[1,{"a":1e999}]}`:                           func(*Identify) {},
		`{"short_id":1,"long_id":{}}`:                           func(*Identify) {},
		`{"client_id":"c"}`:                                     func(i *Identify) { i.ClientID = "c" },
		`{"hostname":"h"}`:                                      func(i *Identify) { i.Hostname = "h" },
		`{"user_agent":"u\u00e9\ud800x"}`:                       func(i *Identify) { i.UserAgent = "u\u00e9\ufffdx" },
		`{"topology_region":"r"}`:                               func(i *Identify) { i.TopologyRegion = "r" },
		`{"topology_zone":"z"}`:                                 func(i *Identify) { i.TopologyZone = "z" },
		`{"feature_negotiation":true}`:                          func(i *Identify) { i.FeatureNegotiation = true },
		`{"tls_v1":true}`:                                       func(i *Identify) { i.TLSv1 = true },
		`{"deflate":true}`:                                      func(i *Identify) { i.Deflate = true },
		`{"snappy":true}`:                                       func(i *Identify) { i.Snappy = true },
		`{"deflate_level":-9}`:                                  func(i *Identify) { i.DeflateLevel = -9 },
		`{"heartbeat_interval":0}`:                              func(*Identify) {},
		`{"heartbeat_interval":-1}`:                             func(i *Identify) { i.HeartbeatInterval = 0 },
		`{"heartbeat_interval":1000}`:                           func(i *Identify) { i.HeartbeatInterval = time.Second },
		`{"heartbeat_interval":60000}`:                          func(i *Identify) { i.HeartbeatInterval = time.Minute },
		`{"output_buffer_size":0}`:                              func(*Identify) {},
		`{"output_buffer_size":-1}`:                             func(i *Identify) { i.OutputBufferSize, i.OutputBufferTimeout = 1, 0 },
		`{"output_buffer_size":64}`:                             func(i *Identify) { i.OutputBufferSize = 64 },
		`{"output_buffer_size":65536}`:                          func(i *Identify) { i.OutputBufferSize = 65536 },
		`{"output_buffer_timeout":0}`:                           func(*Identify) {},
		`{"output_buffer_timeout":-1}`:                          func(i *Identify) { i.OutputBufferTimeout = 0 },
		`{"output_buffer_timeout":25}`:                          func(i *Identify) { i.OutputBufferTimeout = 25 * time.Millisecond },
		`{"output_buffer_timeout":30000}`:                       func(i *Identify) { i.OutputBufferTimeout = 30 * time.Second },
		`{"sample_rate":-0}`:                                    func(*Identify) {},
		`{"sample_rate":99}`:                                    func(i *Identify) { i.SampleRate = 99 },
		`{"msg_timeout":0}`:                                     func(*Identify) {},
		`{"msg_timeout":1000}`:                                  func(i *Identify) { i.MsgTimeout = time.Second },
		`{"msg_timeout":900000}`:                                func(i *Identify) { i.MsgTimeout = 15 * time.Minute },
		`{"MSG_timeOUT":2000}`:                                  func(i *Identify) { i.MsgTimeout = 2 * time.Second },
		"{\"m\u017fg_timeout\":2000}":                           func(i *Identify) { i.MsgTimeout = 2 * time.Second }, // folds like s
		`{"\u006dsg_timeout":2000}`:                             func(i *Identify) { i.MsgTimeout = 2 * time.Second },
		`{"sample_rate":1,"sample_rate":2}`:                     func(i *Identify) { i.SampleRate = 2 },
		`{"sample_rate":1,"SAMPLE_RATE":2}`:                     func(i *Identify) { i.SampleRate = 2 },
		`{"sample_rate":1,"sample_rate":null}`:                  func(i *Identify) { i.SampleRate = 1 },
		`{"client_id":null,"snappy":null,"msg_timeout":null}`:   func(*Identify) {},
		`{"output_buffer_size":-1,"output_buffer_timeout":500}`: func(i *Identify) { i.OutputBufferSize, i.OutputBufferTimeout = 1, 0 },
	} {
		want := defaultIdentify()
		change(&want)
		got, err := ParseIdentify([]byte(body), DefaultIdentifyLimits())
		require.Nil(t, err, body)
		require.Equal(t, want, got, body)
	}
}

func TestIdentify_Refusals(t *testing.T) {
	bad := func(what string) string { return "E_BAD_BODY IDENTIFY " + what + " is invalid" }
	for body, want := range map[string]string{
		`{"heartbeat_interval":999}`:          bad("heartbeat interval (999)"),
		`{"heartbeat_interval":60001}`:        bad("heartbeat interval (60001)"),
		`{"heartbeat_interval":-2}`:           bad("heartbeat interval (-2)"),
		`{"output_buffer_timeout":24}`:        bad("output buffer timeout (24)"),
		`{"output_buffer_timeout":30001}`:     bad("output buffer timeout (30001)"),
		`{"output_buffer_timeout":-2}`:        bad("output buffer timeout (-2)"),
		`{"output_buffer_size":63}`:           bad("output buffer size (63)"),
		`{"output_buffer_size":65537}`:        bad("output buffer size (65537)"),
		`{"output_buffer_size":-2}`:           bad("output buffer size (-2)"),
		`{"sample_rate":-1}`:                  bad("sample rate (-1)"),
		`{"sample_rate":100}`:                 bad("sample rate (100)"),
		`{"msg_timeout":999}`:                 bad("msg timeout (999)"),
		`{"msg_timeout":900001}`:              bad("msg timeout (900001)"),
		`{"msg_timeout":-1}`:                  bad("msg timeout (-1)"),
		`{"msg_timeout":9223372036854775807}`: bad("msg timeout (9223372036854775807)"),
		// The order of the checks is not the order of the fields.
		`{"msg_timeout":1,"sample_rate":-1,"output_buffer_size":1,"output_buffer_timeout":1,"heartbeat_interval":1}`: bad("heartbeat interval (1)"),
		`{"msg_timeout":1,"sample_rate":-1,"output_buffer_size":1,"output_buffer_timeout":1}`:                        bad("output buffer timeout (1)"),
		`{"msg_timeout":1,"sample_rate":-1,"output_buffer_size":1}`:                                                  bad("output buffer size (1)"),
		`{"msg_timeout":1,"sample_rate":-1}`:                                                                         bad("sample rate (-1)"),
	} {
		_, err := ParseIdentify([]byte(body), DefaultIdentifyLimits())
		require.NotNil(t, err, body)
		require.Equal(t, want, err.Error(), body)
		require.True(t, err.Fatal)
	}
}

func TestIdentify_BadJSON(t *testing.T) {
	for _, body := range []string{
		"", " ", "{", "[]", "3", `"x"`, "true", "nul", "{}{}", "{} x", "{}\x00", "\ufeff{}", `{"a":1,}`, `{'a':1}`, "{a:1}",
		`{"heartbeat_interval":3e4}`, `{"heartbeat_interval":30000.0}`, `{"heartbeat_interval":"30000"}`,
		`{"heartbeat_interval":9223372036854775808}`, `{"heartbeat_interval":true}`, `{"heartbeat_interval":[]}`,
		`{"heartbeat_interval":01}`, `{"heartbeat_interval":+1}`, `{"sample_rate":2147483648}`, `{"sample_rate":-2147483649}`,
		`{"client_id":1}`, `{"snappy":1}`, `{"snappy":"true"}`, `{"tls_v1":{}}`, "{\"client_id\":\"\n\"}",
		strings.Repeat("[", 20000), `{"a":` + strings.Repeat(`{"a":`, 20000),
		`{"snappy":true,"snappy":1}`, `{"heartbeat_interval":1,"sample_rate":"x"}`, // decoding comes before the ranges
	} {
		_, err := ParseIdentify([]byte(body), DefaultIdentifyLimits())
		require.NotNil(t, err, "%.50q", body)
		require.Equal(t, "E_BAD_BODY IDENTIFY failed to decode JSON body", err.Error(), "%.50q", body)
		require.True(t, err.Fatal)
	}
}

// On a repeated IDENTIFY 0 and absent keep what the connection has; the rest starts afresh.
func TestIdentify_Repeated(t *testing.T) {
	lim := DefaultIdentifyLimits()
	first, err := ParseIdentify([]byte(`{"client_id":"c","heartbeat_interval":-1,"output_buffer_size":-1,"msg_timeout":2000,
		"sample_rate":5}`), lim)
	require.Nil(t, err)
	lim.HeartbeatInterval, lim.OutputBufferSize = first.HeartbeatInterval, first.OutputBufferSize
	lim.OutputBufferTimeout, lim.MsgTimeout = first.OutputBufferTimeout, first.MsgTimeout
	second, err := ParseIdentify([]byte(`{"output_buffer_timeout":0}`), lim)
	require.Nil(t, err)
	require.Equal(t, Identify{OutputBufferSize: 1, MsgTimeout: 2 * time.Second}, second)
}

func TestIdentify_Negotiate(t *testing.T) {
	offer := ServerInfo{TLSv1: true, Deflate: true, Snappy: true, MaxDeflateLevel: 6}
	for _, c := range []struct {
		ask  Identify
		srv  ServerInfo
		want Grant
	}{
		{Identify{}, offer, Grant{DeflateLevel: 6}},
		{Identify{TLSv1: true, Snappy: true}, offer, Grant{TLSv1: true, Snappy: true, DeflateLevel: 6}},
		{Identify{TLSv1: true, Snappy: true, Deflate: true}, ServerInfo{MaxDeflateLevel: 6}, Grant{DeflateLevel: 6}},
		{Identify{Deflate: true, Snappy: true}, ServerInfo{Snappy: true, MaxDeflateLevel: 3}, Grant{Snappy: true, DeflateLevel: 3}},
		{Identify{Deflate: true, DeflateLevel: 2}, offer, Grant{Deflate: true, DeflateLevel: 2}},
		{Identify{Deflate: true, DeflateLevel: 9}, offer, Grant{Deflate: true, DeflateLevel: 6}},
		{Identify{Deflate: true, DeflateLevel: -1}, offer, Grant{Deflate: true, DeflateLevel: 6}},
		{Identify{Deflate: true, DeflateLevel: 9}, ServerInfo{Deflate: true, MaxDeflateLevel: 9}, Grant{Deflate: true, DeflateLevel: 9}},
		{Identify{DeflateLevel: 2}, offer, Grant{DeflateLevel: 6}}, // not asked for: the level is ignored
	} {
		got, err := Negotiate(&c.ask, &c.srv)
		require.Nil(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := Negotiate(&Identify{Deflate: true, Snappy: true}, &offer)
	require.Equal(t, "E_IDENTIFY_FAILED cannot enable both deflate and snappy compression", err.Error())
	require.True(t, err.Fatal)
}

func TestIdentify_Response(t *testing.T) {
	id := defaultIdentify()
	srv := ServerInfo{Version: "1.3.0", MaxRdyCount: 2500, MaxMsgTimeout: 15 * time.Minute, MaxDeflateLevel: 6}
	g, err := Negotiate(&id, &srv)
	require.Nil(t, err)
	require.Equal(t, `x{"max_rdy_count":2500,"version":"1.3.0","max_msg_timeout":900000,"msg_timeout":60000,"tls_v1":false,`+
		`"deflate":false,"deflate_level":6,"max_deflate_level":6,"snappy":false,"sample_rate":0,"auth_required":false,`+
		`"output_buffer_size":16384,"output_buffer_timeout":250,"topology_region":"","topology_zone":""}`,
		string(AppendIdentifyResponse([]byte("x"), &id, &srv, g)))

	id = Identify{OutputBufferSize: 1, SampleRate: 7, MsgTimeout: 1500 * time.Millisecond, TopologyRegion: "the client's"}
	srv = ServerInfo{Version: "v", MaxRdyCount: 1, MaxMsgTimeout: time.Second, MaxDeflateLevel: 9, AuthRequired: true,
		TopologyRegion: "<r>&", TopologyZone: `"z`}
	require.Equal(t, `{"max_rdy_count":1,"version":"v","max_msg_timeout":1000,"msg_timeout":1500,"tls_v1":true,`+
		`"deflate":true,"deflate_level":4,"max_deflate_level":9,"snappy":true,"sample_rate":7,"auth_required":true,`+
		`"output_buffer_size":1,"output_buffer_timeout":0,"topology_region":"\u003cr\u003e\u0026","topology_zone":"\"z"}`,
		string(AppendIdentifyResponse(nil, &id, &srv, Grant{TLSv1: true, Deflate: true, Snappy: true, DeflateLevel: 4})))
}
