// Package compat is the conformance suite of nsqd's TCP protocol: scripted
// conversations on raw sockets with a real nsqd process.
//
//	go test ./perf/compat/                       builds ./cmd/nsqd and tests it
//	go test ./perf/compat/ -peer=/usr/bin/nsqd   tests any other nsqd binary
//	PEER=/usr/bin/nsqd go test ./perf/compat/    the same
//	go test ./perf/compat/ -peer=/usr/bin/nsqd -peer-lookupd=/usr/bin/nsqlookupd   with another nsqlookupd as well
//	go test ./perf/compat/ -short                leaves out the minute-long waits
//	go test ./perf/compat/ -run 'TestConversations/whole/pub.txt'
//
// nsqd's HTTP API and both protocols of nsqlookupd have their conversations
// beside the code; TestHTTPAndLookup plays those with the same binaries. They
// name their rows in comments, see sourceRows.
//
// The conversations are the files testdata/*.txt except rows.txt. rows.txt
// lists the rows of the protocol's specification; each conversation names the
// rows it proves and a test fails for a row nobody names. Where nsqloop differs
// from the stock daemon on purpose, differences_test.go has an entry, and only
// through such an entry may a conversation expect different things from the
// two.
//
// Every conversation runs twice: "whole" sends each line of the script in one
// write, "bytewise" sends every byte in a write of its own (a line above 64 KiB
// in odd pieces of 4 KiB). The peer must not be able to tell the difference.
//
// # A conversation
//
//	== PUB without a topic is refused
//	rows: 7.1#1 4.E_INVALID
//
//	a> PUB\n
//	a< error E_INVALID PUB insufficient number of parameters
//	a< eof
//
// "==" opens a conversation, "#" a comment. The header lines are
//
//	rows: ID ...          what it proves
//	flags: --x=y ...      the daemon's flags; conversations with equal flags
//	                      share a daemon; $dir is its data path, $auth the
//	                      address of an auth server (authserver_test.go), $cert and
//	                      $key are files for --tls-cert and --tls-key
//	daemon: own           a daemon for this conversation alone, because a step
//	                      stops or damages it
//	daemon: timed         the daemon of those that time matters to: the stock
//	                      daemon looks at 20 random channels every 100 ms, so
//	                      one with thousands of channels is late
//	slow: REASON          left out by -short
//	repeat: N             played N times: what it looks for is a race
//
// A script names its connections with single letters. A connection opens when
// it is first named and sends the magic, unless its first step is "dial".
//
//	a dial                open without sending the magic
//	a> BYTES              send; a*100> BYTES sends them 100 times in one write,
//	                      with $i counting from 0
//	a< EXPECT             the next frame, or the end, of a; a*100< EXPECT: 100 times
//	a< (1s..2s) EXPECT    the same, arriving so long after the previous step
//	a fence               a still answers, and nothing else is on its way: a
//	                      publish to another topic must be answered by the very
//	                      next frame
//	a half-close          shut down the writing side
//	a close               close
//	a stall, a resume     stop and go on reading, with a small receive buffer
//	a skip messages       from here on drop message frames of a
//	a skip heartbeats     from here on drop heartbeats of a
//	a raw                 from here on a does not take up TLS or compression
//	                      that an IDENTIFY grants it. Other connections do at
//	                      once, as clients do; the OKs of that are for the
//	                      script to expect, and to wait for.
//	a anonymous           from here on a has no certificate to show
//	a drain               read whatever is there up to the end of a
//	pause 1s              do nothing; only where time itself is the subject
//	http METHOD PATH      expects status 200; append "-> 404" for another status
//	                      and ":: BODY" for a body; "=> REGEXP" behind all that
//	                      for the body of the answer
//	stats $t PATH = JSON  wait until the value in /stats?topic=$t is this; PATH
//	                      walks objects by key and arrays by index, # is a
//	                      length; also <= and >= for numbers
//	limit-file-size N     from here on the daemon can write no file beyond N bytes
//	sigterm               send SIGTERM; the daemon must exit with 0
//	restart, restart kill stop the daemon, cleanly or not, and start it again on
//	                      its data path; connections opened before are forgotten
//	file NAME REGEXP      wait until a file of the data path is this
//
// EXPECT is one of
//
//	ok                    response frame OK
//	response TEXT         response frame TEXT
//	response~ REGEXP      response frame, whole text matches
//	error TEXT            error frame TEXT
//	error~ REGEXP         error frame, whole text matches
//	heartbeat             response frame _heartbeat_
//	message $m N BODY     message frame, N attempts; the first use of $m binds
//	                      it to the id, later uses require the same id and
//	                      timestamp
//	eof                   orderly close, all frames before it consumed
//	close                 close or reset
//	alert TEXT            a TLS alert of this text
//	silence 500ms         nothing arrives for so long
//
// In BYTES, TEXT, PATH and BODY the escapes are \n \r \t \\ \xNN and a backslash
// before any of [ ] < > $. Further
//
//	<5> <-1>              a number of four bytes, big-endian
//	<A*100>               a text repeated
//	[hello]               a body: its size in four bytes, then the bytes; nests
//	$t, ${t}              a variable: $t is a topic of 16 bytes that no other
//	                      conversation uses, $u another one; $version is what
//	                      the peer says of itself, $dir its data path
//
// A line that begins with "[ID] stock:" or "[ID] ours:" holds for one of the
// two only, by the entry ID of differences_test.go.
//
// When the script ends, every connection that is still open must pass a fence:
// no conversation can miss a frame that was not expected.
package compat
