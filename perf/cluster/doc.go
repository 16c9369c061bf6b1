// Package cluster tests nsqd, nsqlookupd and go-nsq together: consumers that find producers through nsqlookupd, and survive the death and return
// of either daemon. Any binaries will do:
//
//	go test ./perf/cluster                                     ours
//	go test ./perf/cluster -lookupd=/path/to/nsqlookupd        our nsqd with another nsqlookupd
//	go test ./perf/cluster -nsqd=/path/to/nsqd                 another nsqd with our nsqlookupd
package cluster
