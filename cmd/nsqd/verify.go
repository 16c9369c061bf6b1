package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nsqloop/nsqloop/cmd/internal/datapath"
	"github.com/nsqloop/nsqloop/mmapq"
)

// Exit statuses of --verify.
const (
	verifiedClean   = 0
	verifiedDamaged = 1
	verifiedUnread  = 2 // in use by a daemon, or something cannot be read
)

// verify checks the data in dir, prints what it found and changes nothing.
func verify(dir string, stdout, stderr io.Writer) int {
	text, status, err := verifyDir(dir)
	if err != nil {
		text, status, stdout = "nsqd: --verify: "+err.Error()+"\n", verifiedUnread, stderr
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return verifiedUnread
	}
	return status
}

func verifyDir(dir string) (text string, status int, err error) {
	lock, err := datapath.Acquire(dir)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	v, err := mmapq.Verify(mmapq.NewReadOnlyDisk(dir))
	if err != nil {
		return "", 0, err
	}
	if !v.Clean() {
		status = verifiedDamaged
	}
	return report(v), status, nil
}

// report is a line for the directory, each topic and each channel, then what is unusual, then what is damaged and the verdict.
func report(v *mmapq.Verified) string {
	var text strings.Builder
	fmt.Fprintf(&text, "manifest: %d records, %d bytes behind the last one; topics: %d; delays of requeued messages: %d\n", v.Records, v.TornBytes,
		len(v.Topics), v.Delays)
	for _, t := range v.Topics {
		fmt.Fprintf(&text, "TOPIC(%s): %d segments, %d messages, %d damaged, %d never completed\n", t.Name, t.Segments, t.Messages, t.Damaged, t.Holes)
		for _, c := range t.Channels {
			fmt.Fprintf(&text, "  CHANNEL(%s): %d waiting, %d to come again, %d finished\n", c.Name, c.Waiting, c.Claimed, c.Finished)
		}
	}
	for _, note := range v.Notes {
		fmt.Fprintf(&text, "note: %s\n", note)
	}
	for _, damage := range v.Damage {
		fmt.Fprintf(&text, "DAMAGED: %s\n", damage)
	}
	if v.Clean() {
		text.WriteString("clean\n")
	} else {
		fmt.Fprintf(&text, "damaged: %d findings\n", len(v.Damage))
	}
	return text.String()
}
