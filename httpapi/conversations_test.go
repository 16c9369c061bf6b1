package httpapi

import "strings"

var conversations = []struct {
	name  string
	steps []exchange
}{
	// rows: h3.ping h4.1#ok h1#keep-alive h6#1
	{"ping", []exchange{
		does(line("GET", "/ping"), want{status: 200, header: bareText, body: "OK"}),
		does(line("GET", "/ping?%zz"), want{status: 200, header: bareText, body: "OK"}),
		does("GET /ping HTTP/1.0\r\n\r\n", want{status: 200, header: bareText, body: "OK", closes: true}),
	}},
	// rows: h1#keep-alive
	{"ping and close", []exchange{
		does("GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", want{status: 200, header: bareText, body: "OK", closes: true}),
	}},
	// rows: h3.info h2.json h4.2#1 h4.2#2 h4.2#3 h4.2#4 h4.2#5 h4.2#6 h4.2#7 h4.2#8 h4.2#9 h4.2#10 h4.2#11 h4.2#12
	{"info", []exchange{
		does(line("GET", "/info"), wantJSON(`~\{"version":"1\.3\.0[^"]*","broadcast_address":"[^"]+","hostname":"[^"]+","http_port":\d+,"tcp_port":\d+,`+
			`"start_time":\d{10},"max_heartbeat_interval":60000000000,"max_output_buffer_size":65536,"max_output_buffer_timeout":30000000000,`+
			`"max_deflate_level":6,"topology_zone":"[^"]*","topology_region":""\}`)),
	}},
	// rows: h3.pub h4.3#ok h2.text h1#keep-alive h2#names h2#parameters
	{"pub", []exchange{
		does(req("POST", "/pub?topic=$t", "hello"), wantOK),
		does(req("POST", "/pub?topic=$t&defer=0", "hello"), wantOK),
		does(req("POST", "/pub?topic=$t&defer=3600000", "hello"), wantOK),
		does(req("POST", "/pub?topic=$t&defer=%2B5", "hello"), wantOK),
		does(chunked("POST", "/pub?topic=$t", "he", "llo"), wantOK),
		does(req("POST", "/pub?topic=$t%23ephemeral", "hello"), wantOK),
		does(req("POST", "/pub?x=&topic=$t&topic=!!", "hello"), wantOK),
		does(req("POST", "/pub?topic=$t#ephemeral", "hello"), wantOK),
		does(req("POST", "/%70ub?topic=$t", "hello"), wantOK),
	}},
	// rows: h4.3#ok h2#parameters
	{"pub of what looks like a form", []exchange{
		does("POST /pub?topic=$t HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 63\r\n\r\n"+
			"--b\r\nContent-Disposition: form-data; name=\"topic\"\r\n\r\nx\r\n--b--\r\n", wantOK),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"message_count":1,"message_bytes":63,.*`)),
	}},
	// rows: h4.3#4 h4.3#5 h4.3#6 h4.3#7 h4.3#8 h4.3#9 h2.error h2#names h6#3 h6#4 h6#5
	{"pub refused, in order", []exchange{
		does(chunked("POST", "/pub?topic=!", strings.Repeat("x", 1<<20), "y"), wantErr(413, "MSG_TOO_BIG")),
		does(req("POST", "/pub?%zz", ""), wantErr(400, "MSG_EMPTY")),
		does(line("POST", "/pub"), wantErr(400, "MSG_EMPTY")),
		does(req("POST", "/pub?topic=$t&a;b", "x"), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/pub?topic=$t&a=%zz", "x"), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/pub?topic=$t&a=%2", "x"), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/pub", "x"), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/pub?Topic=a", "topic=a"), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/pub?topic=", "x"), wantErr(400, "INVALID_TOPIC")),
		does(req("POST", "/pub?topic=a+b", "x"), wantErr(400, "INVALID_TOPIC")),
		does(req("POST", "/pub?topic="+strings.Repeat("x", 65), "x"), wantErr(400, "INVALID_TOPIC")),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/pub?topic=$t&defer=", "x"), wantErr(400, "INVALID_DEFER")),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/pub?topic=$t&defer=1.5", "x"), wantErr(400, "INVALID_DEFER")),
		does(req("POST", "/pub?topic=$t&defer=-1", "x"), wantErr(400, "INVALID_DEFER")),
		does(req("POST", "/pub?topic=$t&defer=3600001", "x"), wantErr(400, "INVALID_DEFER")),
		does(req("POST", "/pub?topic=$t&defer=99999999999999999999", "x"), wantErr(400, "INVALID_DEFER")),
	}},
	// rows: h4.3#1
	{"pub too big by length is refused unread", []exchange{
		does("POST /pub?topic=!! HTTP/1.1\r\nHost: h\r\nContent-Length: 9048577\r\n\r\nx", want{status: 413, header: nsqJSON, body: `{"message":"MSG_TOO_BIG"}`, closes: true}),
	}},
	// rows: h4.3#1 h1#keep-alive
	{"pub too big does not get leave to send", []exchange{
		does("POST /pub?topic=!! HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n",
			want{status: 413, header: nsqJSON, body: `{"message":"MSG_TOO_BIG"}`, closes: true}),
	}},
	// rows: h4.3#3
	{"pub of the largest message", []exchange{
		does(req("POST", "/pub?topic=$t", strings.Repeat("x", 1<<20)), wantOK),
		does(chunked("POST", "/pub?topic=$t", strings.Repeat("x", 1<<19), strings.Repeat("y", 1<<19)), wantOK),
		does(req("POST", "/pub?topic=$t", strings.Repeat("x", 1<<20+1)), wantErr(413, "MSG_TOO_BIG")),
	}},
	// rows: h4.3#2
	{"pub with a short body", []exchange{
		{send: "POST /pub?topic=$t HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc", half: true,
			want: want{status: 500, header: nsqJSON, body: `{"message":"INTERNAL_ERROR"}`, closes: true}},
	}},
	// rows: h4.3#2
	{"pub with a broken chunk", []exchange{
		{send: "POST /pub?topic=$t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", half: true,
			want: want{status: 500, header: nsqJSON, body: `{"message":"INTERNAL_ERROR"}`, closes: true}},
	}},
	// rows: h4.3#2
	{"pub with a chunked body cut off", []exchange{
		{send: "POST /pub?topic=$t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", half: true,
			want: want{status: 500, header: nsqJSON, body: `{"message":"INTERNAL_ERROR"}`, closes: true}},
	}},
	// rows: h3.mpub h4.4.text h4.4.binary-values h6#6
	{"mpub of lines", []exchange{
		does(req("POST", "/mpub?topic=$t", "a\nb\n\nc"), wantOK),
		does(req("POST", "/mpub?topic=$t", "a\r\nb\n"), wantOK),
		does(req("POST", "/mpub?topic=$t", ""), wantOK),
		does(req("POST", "/mpub?topic=$t", "\n\n\n"), wantOK),
		does(req("POST", "/mpub?topic=$t&binary=false&defer=x", "a"), wantOK),
		does(req("POST", "/mpub?topic=$t&binary=0", "a"), wantOK),
		does(chunked("POST", "/mpub?topic=$t", "a\nb", "c\n", "d"), wantOK),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"message_count":10,"message_bytes":12,.*`)),
	}},
	// rows: h4.4#order h4.4.text h6#3
	{"mpub of lines refused", []exchange{
		does(req("POST", "/mpub", "a"), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/mpub?topic=!", ""), wantErr(400, "INVALID_TOPIC")),
		does(req("POST", "/mpub?topic=$t;", ""), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/mpub?topic=$t", "a\n"+strings.Repeat("x", 1<<20+1)+"\nb"), wantErr(413, "MSG_TOO_BIG")),
		does(req("POST", "/mpub?topic=$t", "a\n"+strings.Repeat("x", 1<<20+1)), wantErr(413, "MSG_TOO_BIG")),
		does(req("POST", "/mpub?topic=$t", strings.Repeat("x", 1<<20)+"\n"), wantOK),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"message_count":1,"message_bytes":1048576,.*`)),
	}},
	// rows: h4.4.text
	{"mpub of lines with a short body", []exchange{
		{send: "POST /mpub?topic=$t HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\na\nb\n", half: true,
			want: want{status: 500, header: nsqJSON, body: `{"message":"INTERNAL_ERROR"}`, closes: true}},
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"message_count":0,"message_bytes":0,.*`)),
	}},
	// rows: h4.4#order
	{"mpub too big by length", []exchange{
		does("POST /mpub?topic=!! HTTP/1.1\r\nHost: h\r\nContent-Length: 5242881\r\n\r\nx", want{status: 413, header: nsqJSON, body: `{"message":"BODY_TOO_BIG"}`, closes: true}),
	}},
	// rows: h4.4.text
	{"mpub too big in chunks", []exchange{
		does(chunked("POST", "/mpub?topic=$t", strings.Repeat("abc\n", 5<<18), "x"), wantErr(413, "BODY_TOO_BIG")),
		does(chunked("POST", "/mpub?topic=$t", strings.Repeat("abc\n", 5<<18), "\n"), wantErr(413, "BODY_TOO_BIG")),
		does(chunked("POST", "/mpub?topic=$t", strings.Repeat("abc\n", 5<<18)), wantOK),
	}},
	// rows: h4.4#order h6#5
	{"mpub creates the topic first", []exchange{
		does(req("POST", "/mpub?topic=$t&binary=1", ""), wantErr(413, "BAD_BODY")),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
	}},
	// rows: h4.4.binary h4.4.binary-values h6#6
	{"mpub binary", []exchange{
		does(req("POST", "/mpub?topic=$t&binary=true", "\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bc"), wantOK),
		does(req("POST", "/mpub?topic=$t&binary=", "\x00\x00\x00\x01\x00\x00\x00\x01a"), wantOK),
		does(req("POST", "/mpub?topic=$t&binary=yes", "\x00\x00\x00\x01\x00\x00\x00\x01atrailing"), wantOK),
		does(chunked("POST", "/mpub?topic=$t&binary=1", "\x00\x00", "\x00\x01\x00", "\x00\x00\x01a"), wantOK),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"message_count":5,"message_bytes":6,.*`)),
	}},
	// rows: h4.4.bad-body h4.4.bad-message h6#7
	{"mpub binary refused", []exchange{
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x01"), wantErr(413, "BAD_BODY")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x00"), wantErr(413, "BAD_BODY")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\xff\xff\xff\xff"), wantErr(413, "BAD_BODY")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x10\x00\x00"), wantErr(413, "BAD_BODY")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x0f\xff\xff"), wantErr(413, "BAD_MESSAGE")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x01\x00\x00"), wantErr(413, "BAD_MESSAGE")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x01\x00\x00\x00\x00"), wantErr(413, "BAD_MESSAGE")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x01\xff\x00\x00\x00"), wantErr(413, "BAD_MESSAGE")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x01\x00\x10\x00\x01x"), wantErr(413, "BAD_MESSAGE")),
		does(req("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x05abc"), wantErr(413, "BAD_MESSAGE")),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"message_count":0,"message_bytes":0,.*`)),
	}},
	// rows: h4.4.binary
	{"mpub binary in chunks beyond the largest body", []exchange{
		{send: chunked("POST", "/mpub?topic=$t&binary=1", "\x00\x00\x00\x06", bigMessages(6)), want: wantErr(413, "BODY_TOO_BIG"),
			stock: &wantOK, reason: "what one request may hold in memory is bounded"},
	}},
	// rows: h3.topic h4.5.topic-create h4.5.topic-delete h4.5.topic-empty h4.5.topic-pause h2.empty
	{"topic administration", []exchange{
		does(req("POST", "/topic/create?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/create?topic=$t", "ignored"), wantEmpty),
		does(req("POST", "/pub?topic=$t", "x"), wantOK),
		does(req("POST", "/topic/pause?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/pause?topic=$t", "ignored"), wantEmpty),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"depth":1,"backend_depth":0,"message_count":1,"message_bytes":1,"paused":true,.*`)),
		does(req("POST", "/topic/unpause?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/unpause?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/empty?topic=$t", ""), wantEmpty),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"depth":0,"backend_depth":0,"message_count":1,"message_bytes":1,"paused":false,.*`)),
		does(req("POST", "/topic/delete?topic=$t", ""), wantEmpty),
		does(req("POST", "/topic/delete?topic=$t", ""), wantErr(404, "TOPIC_NOT_FOUND")),
	}},
	// rows: h4.5.topic-create h4.5.topic-delete h4.5.topic-empty h4.5.topic-pause h6#3
	{"topic administration refused", []exchange{
		does(req("POST", "/topic/create", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/create?topic=a/b", ""), wantErr(400, "INVALID_TOPIC")),
		does(req("POST", "/topic/create?;", ""), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/topic/delete", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/delete?topic=a/b", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/delete?topic=$u", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/empty", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/empty?topic=a/b", ""), wantErr(400, "INVALID_TOPIC")),
		does(req("POST", "/topic/empty?topic=$u", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/pause", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/pause?topic=a/b", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/pause?topic=$u", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/unpause", ""), wantErr(400, "MISSING_ARG_TOPIC")),
		does(req("POST", "/topic/unpause?topic=$u", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		does(req("POST", "/topic/unpause?%", ""), wantErr(400, "INVALID_REQUEST")),
		does(req("POST", "/topic/delete?topic=", ""), wantErr(404, "TOPIC_NOT_FOUND")),
	}},
	// rows: h4.5#order
	{"administration with a short body", []exchange{
		{send: "POST /topic/empty?topic=$t HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc", half: true,
			want: want{status: 400, header: nsqJSON, body: `{"message":"INVALID_REQUEST"}`, closes: true}},
	}},
	// rows: h3.channel h4.5.channel-create h4.5.channel-delete h4.5.channel-empty h4.5.channel-pause h5.1.empty#5 h6#10
	{"channel administration", []exchange{
		does(req("POST", "/topic/create?topic=$t", ""), wantEmpty),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/create?topic=$t&channel=b%23ephemeral", ""), wantEmpty),
		does(req("POST", "/channel/pause?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/pause?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/unpause?topic=$t&channel=b%23ephemeral", ""), wantEmpty),
		does(line("GET", "/stats?format=json&include_mem=false&topic=$t"), wantJSON(`~\{"version":"[^"]+","health":"OK","start_time":\d+,"topics":\[`+
			`\{"topic_name":"$t","channels":\[`+
			`\{"channel_name":"b#ephemeral","depth":0,"backend_depth":0,"in_flight_count":0,"deferred_count":0,"message_count":0,`+
			`"requeue_count":0,"timeout_count":0,"client_count":0,"clients":\[\],"paused":false,"e2e_processing_latency":\{"count":0,"percentiles":null\}\},`+
			`\{"channel_name":"c","depth":0,"backend_depth":0,"in_flight_count":0,"deferred_count":0,"message_count":0,`+
			`"requeue_count":0,"timeout_count":0,"client_count":0,"clients":\[\],"paused":true,"e2e_processing_latency":\{"count":0,"percentiles":null\}\}\],`+
			`"depth":0,"backend_depth":0,"message_count":0,"message_bytes":0,"paused":false,"e2e_processing_latency":\{"count":0,"percentiles":null\}\}\],`+
			`"producers":null\}`)),
		does(req("POST", "/channel/empty?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/delete?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/delete?topic=$t&channel=c", ""), wantErr(404, "CHANNEL_NOT_FOUND")),
		does(req("POST", "/channel/empty?topic=$t&channel=c", ""), wantErr(404, "CHANNEL_NOT_FOUND")),
		does(req("POST", "/channel/pause?topic=$t&channel=c", ""), wantErr(404, "CHANNEL_NOT_FOUND")),
		does(req("POST", "/channel/unpause?topic=$t&channel=c", ""), wantErr(404, "CHANNEL_NOT_FOUND")),
	}},
	// rows: h4.5.channel-empty
	{"channel depth", []exchange{
		does(req("POST", "/topic/create?topic=$t", ""), wantEmpty),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/channel/pause?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/mpub?topic=$t", "a\nbc\n"), wantOK),
		does(req("POST", "/channel/empty?topic=$t&channel=c", ""), wantEmpty),
		{send: line("GET", "/stats?format=json&include_mem=0&topic=$t"), want: wantJSON(`~.*"channel_name":"c","depth":0,.*"message_count":2,"message_bytes":3,.*`),
			stock:  &want{status: 200, header: nsqJSON, body: `~.*"channel_name":"c","depth":\d,.*"message_count":2,"message_bytes":3,.*`},
			reason: "its messages reach a channel some time after the publish, so emptying it at once may miss them"},
	}},
	// rows: h4.5#order h6#3
	{"channel administration refused, in order", refusedChannelSteps()},
	// rows: h3.stats h5.1.format h5.1.include_mem h5.1.empty#2 h5.2.memory h6#9
	{"stats of nothing", []exchange{
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~\{"version":"[^"]+","health":"OK","start_time":\d+,"topics":null,"producers":null\}`)),
		does(line("GET", "/stats?format=json&include_mem=0&channel=$t"), wantJSON(`~\{"version":"[^"]+","health":"OK","start_time":\d+,"topics":\[\],"producers":null\}`)),
		does(line("GET", "/stats?format=json&topic=$t"), wantJSON(`~\{"version":"[^"]+","health":"OK","start_time":\d+,"topics":null,`+
			`"memory":\{"heap_objects":\d+,"heap_idle_bytes":\d+,"heap_in_use_bytes":\d+,"heap_released_bytes":\d+,"gc_pause_usec_100":\d+,`+
			`"gc_pause_usec_99":\d+,"gc_pause_usec_95":\d+,"next_gc_bytes":\d+,"gc_total_runs":\d+\},"producers":null\}`)),
		does(line("GET", "/stats?;"), wantErr(400, "INVALID_REQUEST")),
	}},
	// rows: h5.1.topic h5.1.channel h5.1.include_clients h5.1.empty#3 h5.1.empty#4
	{"stats filters", []exchange{
		does(req("POST", "/topic/create?topic=$t", ""), wantEmpty),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t"), wantJSON(`~.*"topics":\[\{"topic_name":"$t","channels":\[\],"depth":0,.*`)),
		does(line("GET", "/stats?format=json&include_mem=0&topic=$t&channel=c"), wantJSON(`~.*"topics":\[\],"producers":null\}`)),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(line("GET", "/stats?format=json&include_mem=0&include_clients=0&topic=$t&channel=c"), wantJSON(`~.*"client_count":0,"clients":null,.*"producers":null\}`)),
		does(line("GET", "/stats?format=json&include_mem=0&include_clients=no&topic=$t&channel=c"), wantJSON(`~.*"client_count":0,"clients":\[\],.*`)),
	}},
	// rows: h5.1.format h5.3.memory h5.3.topic h5.3.channel h5.3#none
	{"stats as text", []exchange{
		does(req("POST", "/topic/create?topic=$t", ""), wantEmpty),
		does(req("POST", "/channel/create?topic=$t&channel=c", ""), wantEmpty),
		does(req("POST", "/topic/pause?topic=$t", ""), wantEmpty),
		does(line("GET", "/stats?topic=$t&format=JSON"), want{status: 200, header: nsqText, body: `~(?s)nsqd v1\.3\.0\S* \(built w/go[^)]+\)
start_time \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+
uptime \S+

Health: OK

Memory:
   heap_objects             	\d+
   heap_idle_bytes          	\d+
   heap_in_use_bytes        	\d+
   heap_released_bytes      	\d+
   gc_pause_usec_100        	\d+
   gc_pause_usec_99         	\d+
   gc_pause_usec_95         	\d+
   next_gc_bytes            	\d+
   gc_total_runs            	\d+

Topics:
\*P \[$t       \] depth: 0     be-depth: 0     msgs: 0        e2e%: ` + `
      \[c                        \] depth: 0     be-depth: 0     inflt: 0    def: 0    re-q: 0     timeout: 0     msgs: 0        e2e%: ` + `

Producers: None
`}),
		does(line("GET", "/stats?topic=$u&include_mem=0"), want{status: 200, header: nsqText, body: `~nsqd [^\n]+
start_time \S+
uptime \S+

Health: OK

Topics: None

Producers: None
`}),
	}},
	// rows: h3.config h4.6#get h4.6#types h4.6.log_level h4.6.lookupds h4.6#errors h6#13
	{"config", []exchange{
		does(line("GET", "/config/log_level"), wantJSON("2")),
		does(line("GET", "/config/log%5flevel"), wantJSON("2")),
		does(line("GET", "/config/log_prefix"), want{status: 200, header: nsqText, body: "[nsqd] "}),
		does(line("GET", "/config/tls_cert"), wantEmpty),
		does(line("GET", "/config/msg_timeout"), wantJSON("60000000000")),
		does(line("GET", "/config/deflate"), wantJSON("true")),
		does(line("GET", "/config/max_rdy_count"), wantJSON("2500")),
		does(line("GET", "/config/nsqlookupd_tcp_addresses"), wantJSON("[]")),
		does(line("GET", "/config/Log_Level"), wantErr(400, "INVALID_OPTION")),
		does(line("GET", "/config/verbose"), wantErr(400, "INVALID_OPTION")),
		does(req("PUT", "/config/log_level", "DEBUG"), wantJSON("1")),
		does(line("GET", "/config/log_level"), wantJSON("1")),
		does(req("PUT", "/config/log_level", "info"), wantJSON("2")),
		does(req("PUT", "/config/log_level", "info\n"), wantErr(400, "INVALID_VALUE")),
		does(req("PUT", "/config/log_level", `"info"`), wantErr(400, "INVALID_VALUE")),
		does(req("PUT", "/config/log_level", "warning"), wantErr(400, "INVALID_VALUE")),
		does(req("PUT", "/config/log_level", ""), wantErr(413, "INVALID_VALUE")),
		does(req("PUT", "/config/none", ""), wantErr(413, "INVALID_VALUE")),
		does(req("PUT", "/config/none", "x"), wantErr(400, "INVALID_OPTION")),
		does(req("PUT", "/config/msg_timeout", "5"), wantErr(400, "INVALID_OPTION")),
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", "[]"), wantJSON("[]")),
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", "null"), wantJSON("null")),
		does(line("GET", "/config/nsqlookupd_tcp_addresses"), wantJSON("null")),
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", "[1]"), wantErr(400, "INVALID_VALUE")),
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", "x"), wantErr(400, "INVALID_VALUE")),
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", "[]"), wantJSON("[]")),
		does(req("PUT", "/config/log_level", strings.Repeat("x", 1<<20+1)), wantErr(413, "INVALID_VALUE")),
	}},
	// rows: h4.6.lookupds
	{"config of peers", []exchange{
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", `["127.0.0.1:1"]`), wantJSON(`["127.0.0.1:1"]`)),
		does(line("GET", "/config/nsqlookupd_tcp_addresses"), wantJSON(`["127.0.0.1:1"]`)),
		does(req("PUT", "/config/nsqlookupd_tcp_addresses", `[]`), wantJSON("[]")),
	}},
	// rows: h2.routing.unknown h2.routing.method h2.routing.head h2.routing.config h3#old-names h6#2 h4.7.absent
	{"routing", []exchange{
		does(line("GET", "/"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/nope"), wantErr(404, "NOT_FOUND")),
		does(req("POST", "/put?topic=$t", "x"), wantErr(404, "NOT_FOUND")),
		does(line("HEAD", "/nope"), want{status: 404, header: nsqJSON}),
		does(line("HEAD", "/ping"), want{status: 405, header: header("Allow", "GET, OPTIONS", "X-Nsq-Content-Type", "nsq; version=1.0", "Content-Type", "application/json; charset=utf-8")}),
		does(line("POST", "/ping"), wantAllow("GET, OPTIONS")),
		does(line("DELETE", "/ping"), wantAllow("GET, OPTIONS")),
		does(line("get", "/ping"), wantAllow("GET, OPTIONS")),
		does(line("FOO", "/pub"), wantAllow("OPTIONS, POST")),
		does(line("GET", "/topic/create"), wantAllow("OPTIONS, POST")),
		does(line("DELETE", "/config/x"), wantAllow("GET, OPTIONS, PUT")),
		does(line("GET", "/debug/freememory"), wantAllow("OPTIONS, POST")),
		does(line("GET", "/debug/setblockrate"), wantAllow("OPTIONS, PUT")),
		does(line("PUT", "/debug/pprof/symbol"), wantAllow("GET, OPTIONS, POST")),
		does(line("GET", "/debug/pprof/mutex"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/config"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/config/"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/config/a/b"), wantErr(404, "NOT_FOUND")),
		does(line("DELETE", "/ping/"), wantErr(404, "NOT_FOUND")),
		does(line("PUT", "/ping/"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/pub/"), wantErr(404, "NOT_FOUND")),
		does(line("GET", "/p%69ng"), want{status: 200, header: bareText, body: "OK"}),
		does(line("GET", "http://other/ping"), want{status: 200, header: bareText, body: "OK"}),
		does(line("GET", "/ping#x"), wantErr(404, "NOT_FOUND")),
	}},
	// rows: h2.routing.options
	{"options", []exchange{
		does(line("OPTIONS", "/ping"), want{status: 200, header: header("Allow", "GET, OPTIONS")}),
		does(line("OPTIONS", "/pub"), want{status: 200, header: header("Allow", "OPTIONS, POST")}),
		does(line("OPTIONS", "/config/x"), want{status: 200, header: header("Allow", "GET, OPTIONS, PUT")}),
		does(line("OPTIONS", "*"), want{status: 200, header: none}),
		does(line("OPTIONS", "/nope"), wantErr(404, "NOT_FOUND")),
		does(line("OPTIONS", "/ping/"), wantErr(404, "NOT_FOUND")),
	}},
	// rows: h2.routing.fixed h6#2
	{"redirects", []exchange{
		does(line("GET", "/ping/?a=b&c"), want301("/ping?a=b&amp;c").unescapeLocation()),
		does(line("GET", "/PING"), want301("/ping")),
		does(line("GET", "//ping"), want301("/ping")),
		does(line("GET", "/x/../ping"), want301("/ping")),
		does(line("GET", "/./stats/"), want301("/stats")),
		does(line("GET", "/Stats/"), want301("/stats")),
		does(line("GET", "/ping%2f"), want301("/ping")),
		does(line("GET", "/debug/pprof"), want301("/debug/pprof/")),
		does(line("GET", "/Debug/pprof"), want301("/debug/pprof/")),
		does(line("GET", "/config/log_level/"), want301("/config/log_level")),
		does(line("GET", "/CONFIG/Log_Level"), want301("/config/Log_Level")),
		does(line("GET", "http://other/ping/"), want301("http://other/ping")),
		does(req("POST", "/pub/?topic=$t", "x"), want307("/pub?topic=$t")),
		does(req("POST", "/PUB", ""), want307("/pub")),
		does(req("PUT", "/CONFIG/x", ""), want307("/config/x")),
	}},
	// rows: h3.pprof h3.symbol h3.setblockrate h3.freememory h4.7.index h4.7.profiles h4.7.cpu h4.7.cmdline h4.7.symbol h4.7.setblockrate h4.7.freememory
	{"debug", []exchange{
		does(line("PUT", "/debug/setblockrate"), want{status: 400, header: bareText, body: `invalid block rate : strconv.Atoi: parsing "": invalid syntax`}),
		does(line("PUT", "/debug/setblockrate?rate=abc"), want{status: 400, header: bareText, body: `invalid block rate : strconv.Atoi: parsing "abc": invalid syntax`}),
		does("PUT /debug/setblockrate?rate=1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nrate=a%20",
			want{status: 400, header: bareText, body: `invalid block rate : strconv.Atoi: parsing "a ": invalid syntax`}),
		{send: line("PUT", "/debug/setblockrate?rate=0"), want: want{status: 200, header: none}, stock: ptr(wantErr(500, "INTERNAL_ERROR")), reason: "the stock daemon cannot encode its own success"},
		{send: line("POST", "/debug/freememory"), want: want{status: 200, header: none}, stock: ptr(wantErr(500, "INTERNAL_ERROR")), reason: "as above"},
		does(line("GET", "/debug/pprof/goroutine?debug=1"), want{status: 200, header: header("Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff"), body: "~(?s)goroutine profile: total .*"}),
		does(line("GET", "/debug/pprof/heap"), want{status: 200, header: header("Content-Type", "application/octet-stream", "X-Content-Type-Options", "nosniff",
			"Content-Disposition", `attachment; filename="heap"`), body: "~(?s)\x1f.*"}),
		does(line("GET", "/debug/pprof/cmdline"), want{status: 200, header: header("Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff"), body: "~(?s).+"}),
		does(line("GET", "/debug/pprof/symbol"), want{status: 200, header: header("Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff"), body: "num_symbols: 1\n"}),
		does(req("POST", "/debug/pprof/symbol", "0x1"), want{status: 200, header: header("Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff"), body: "num_symbols: 1\n"}),
		does(line("GET", "/debug/pprof/"), want{status: 200, header: header("Content-Type", "text/html; charset=utf-8", "X-Content-Type-Options", "nosniff"), body: "~(?s)<html>.*"}),
		does(line("GET", "/debug/pprof/profile?seconds=1"), want{status: 200, header: header("Content-Type", "application/octet-stream", "X-Content-Type-Options", "nosniff",
			"Content-Disposition", `attachment; filename="profile"`), body: "~(?s)\x1f.*"}),
	}},
	// rows: h1#keep-alive
	{"unknown expectation", []exchange{
		does("GET /ping HTTP/1.1\r\nHost: h\r\nExpect: foo\r\n\r\n", want{status: 417, header: none, closes: true}),
	}},
	// rows: h2.routing.malformed
	{"not a path", []exchange{does(line("GET", "ping"), want400)}},
	// rows: h2.routing.malformed
	{"broken escape in the path", []exchange{does(line("GET", "/%zz"), want400)}},
	// rows: h2.routing.malformed
	{"no HTTP", []exchange{does("\x16\x03\x01\x00\xa5\x01\r\n\r\n", want400)}},
	// rows: h2.routing.malformed
	{"no version", []exchange{does("GET /ping\r\nHost: h\r\n\r\n", want400)}},
	// rows: h2.routing.malformed
	{"bad length", []exchange{does("GET /ping HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", want400)}},
	// rows: h2.routing.malformed
	{"two lengths", []exchange{does("GET /ping HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", want400)}},
	// rows: h2.routing.malformed
	{"half a header", []exchange{{send: "GET /ping HTTP/1.1\r\nHost: h\r\n", half: true, want: want400}}},
}

func ptr(w want) *want { return &w }

// unescapeLocation: the header has the target as it is, only the page escapes it.
func (w want) unescapeLocation() want {
	w.header["Location"] = strings.ReplaceAll(w.header["Location"], "&amp;", "&")
	return w
}

// bigMessages is n messages of the largest size in binary form.
func bigMessages(n int) string {
	return strings.Repeat("\x00\x10\x00\x00"+strings.Repeat("m", 1<<20), n)
}

func refusedChannelSteps() []exchange {
	var steps []exchange
	for _, action := range []string{"create", "delete", "empty", "pause", "unpause"} {
		p := "/channel/" + action
		steps = append(steps,
			does(req("POST", p+"?;", ""), wantErr(400, "INVALID_REQUEST")),
			does(req("POST", p, ""), wantErr(400, "MISSING_ARG_TOPIC")),
			does(req("POST", p+"?topic=!&channel=!", ""), wantErr(400, "INVALID_ARG_TOPIC")),
			does(req("POST", p+"?topic=$t", ""), wantErr(400, "MISSING_ARG_CHANNEL")),
			does(req("POST", p+"?topic=$t&channel=", ""), wantErr(400, "INVALID_ARG_CHANNEL")),
			does(req("POST", p+"?topic=$t&channel=c", ""), wantErr(404, "TOPIC_NOT_FOUND")),
		)
	}
	return steps
}
