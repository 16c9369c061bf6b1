package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// writeMarkdown prints how it was measured, a table of throughput for each peer, or one of ours alone, and tables of everything else.
func writeMarkdown(ctx context.Context, o options, all results) error {
	var text strings.Builder
	writeConditions(ctx, &text, o)
	if o.peer == "" {
		writeAlone(&text, o, all)
	} else {
		writeThroughput(&text, o, all, peerMemName, peerMemArgs)
		writeThroughput(&text, o, all, peerDiskName, peerDiskArgs)
	}
	writeOthers(&text, o, all)
	_, err := io.WriteString(o.out, text.String())
	return err
}

// judge is what the tables say about the floors of a row: what they ask for, and whether they hold.
func judge(o options, all results, w workload, index int) (asked, found string) {
	var asks, finds []string
	r := w.rows[index]
	for _, f := range o.floorsOf(w, r) {
		asks = append(asks, f.text(r))
		if o.peer == "" && f.limit == 0 {
			continue
		}
		finds = append(finds, f.verdict(r, func(subject string) []sample { return all[cell{w.name, subject, index}] }))
	}
	return strings.Join(asks, "; "), strings.Join(finds, "; ")
}

// eachRow calls f for the rows of one kind of all workloads.
func eachRow(throughput bool, f func(w workload, index int)) {
	for _, w := range workloads {
		for i, r := range w.rows {
			if r.throughput == throughput {
				f(w, i)
			}
		}
	}
}

// writeThroughput is the table of ours and one peer. Floors are about the peer in memory, its best case.
func writeThroughput(text *strings.Builder, o options, all results, peer string, args []string) {
	var rows strings.Builder
	eachRow(true, func(w workload, i int) {
		ours, theirs := all[cell{w.name, oursName, i}], all[cell{w.name, peer, i}]
		if len(ours) == 0 || len(theirs) == 0 {
			return
		}
		fmt.Fprintf(&rows, "| %s | %s | %v | %v | %.1f | ", w.title, w.rows[i].name, spreadOf(ours, value), spreadOf(theirs, value),
			spreadOf(theirs, value).median/spreadOf(ours, value).median)
		if peer == peerMemName {
			asked, found := judge(o, all, w, i)
			fmt.Fprintf(&rows, "%s | %s | ", asked, found)
		}
		fmt.Fprintf(&rows, "%v | %v | %v | %v |\n", spreadOf(ours, busy), spreadOf(theirs, busy), spreadOf(ours, rate), spreadOf(theirs, rate))
	})
	if rows.Len() == 0 {
		return
	}
	head, rule := "", ""
	if peer == peerMemName {
		head, rule = "floor | | ", "--- | --- | "
	}
	fmt.Fprintf(text, "\n### Ours and the %s (`%s`)\n\n", peer, strings.Join(args, " "))
	fmt.Fprintf(text, "| workload | pass | ours, CPU ns/msg | peer, CPU ns/msg | peer / ours | %sours, machine busy ns/msg | peer, busy | ours, msg/s | peer, msg/s |\n", head)
	fmt.Fprintf(text, "| --- | --- | ---: | ---: | ---: | %s---: | ---: | ---: | ---: |\n", rule)
	text.WriteString(rows.String())
}

func writeAlone(text *strings.Builder, o options, all results) {
	text.WriteString("\n| workload | pass | CPU ns/msg | machine busy ns/msg | msg/s |\n| --- | --- | ---: | ---: | ---: |\n")
	eachRow(true, func(w workload, i int) {
		if ours := all[cell{w.name, oursName, i}]; len(ours) > 0 {
			fmt.Fprintf(text, "| %s | %s | %v | %v | %v |\n", w.title, w.rows[i].name, spreadOf(ours, value), spreadOf(ours, busy), spreadOf(ours, rate))
		}
	})
}

// writeOthers prints what is not throughput: a table for each set of subjects, which are its columns.
func writeOthers(text *strings.Builder, o options, all results) {
	var columns []string
	eachRow(false, func(w workload, i int) {
		var names []string
		for _, s := range w.of(o) {
			names = append(names, s.name)
		}
		if len(all[cell{w.name, oursName, i}]) == 0 {
			return
		}
		if !slices.Equal(names, columns) {
			columns = names
			fmt.Fprintf(text, "\n| what | figure | unit | floor | | %s |\n", strings.Join(names, " | "))
			fmt.Fprintf(text, "| --- | --- | --- | --- | --- |%s\n", strings.Repeat(" ---: |", len(names)))
		}
		asked, found := judge(o, all, w, i)
		fmt.Fprintf(text, "| %s | %s | %s | %s | %s |", w.title, w.rows[i].name, w.rows[i].unit, asked, found)
		for _, name := range names {
			cellText := ""
			if samples := all[cell{w.name, name, i}]; len(samples) > 0 {
				cellText = spreadOf(samples, value).String()
			}
			fmt.Fprintf(text, " %s |", cellText)
		}
		text.WriteString("\n")
	})
}
