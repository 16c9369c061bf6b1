package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// spread is a median with the range around it.
type spread struct{ median, low, high float64 }

func spreadOf(samples []sample, value func(sample) float64) spread {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	slices.Sort(values)
	n := len(values)
	return spread{median: (values[(n-1)/2] + values[n/2]) / 2, low: values[0], high: values[n-1]}
}

func cpu(s sample) float64  { return s.cpuPerMessage }
func rate(s sample) float64 { return s.perSecond }

// String is "median (low-high)".
func (s spread) String() string {
	return fmt.Sprintf("%s (%s-%s)", grouped(s.median), grouped(s.low), grouped(s.high))
}

// grouped writes a whole number with commas.
func grouped(value float64) string {
	digits := strconv.FormatInt(int64(value+0.5), 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// writeMarkdown prints how it was measured and a table for each peer, or one of ours alone.
func writeMarkdown(ctx context.Context, o options, all results) error {
	var text strings.Builder
	writeConditions(ctx, &text, o)
	if o.peer == "" {
		writeAlone(&text, all)
	}
	for _, peer := range o.subjects()[1:] {
		writeTable(&text, all, peer)
	}
	_, err := io.WriteString(o.out, text.String())
	return err
}

func writeConditions(ctx context.Context, text *strings.Builder, o options) {
	var uname unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uname) == nil {
		kernel = unix.ByteSliceToString(uname.Release[:])
	}
	fmt.Fprintf(text, "%s, %d processors (%s), Linux %s, data path on %s, bench built with %s, commit %s\n\n", time.Now().Format(time.DateOnly),
		runtime.NumCPU(), processor(), kernel, fileSystem(o.dir), runtime.Version(), output(ctx, "git", "rev-parse", "--short", "HEAD"))
	fmt.Fprintf(text, "Ours: %s. ", output(ctx, o.ours, "--version"))
	if o.peer != "" {
		fmt.Fprintf(text, "Peer: %s. ", output(ctx, o.peer, "--version"))
	}
	fmt.Fprintf(text, "Bodies of %d random bytes, %d runs, median (lowest-highest).\n", o.size, o.runs)
}

// output is the first line a command prints, or "unknown".
func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || line == "" {
		return "unknown"
	}
	return line
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

func fileSystem(dir string) string {
	if dir == "" {
		dir = os.TempDir()
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "unknown"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.TMPFS_MAGIC: "tmpfs", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	}
	if name, known := names[int64(stat.Type)]; known {
		return name
	}
	return fmt.Sprintf("file system %x", stat.Type)
}

func writeTable(text *strings.Builder, all results, peer subject) {
	fmt.Fprintf(text, "\n### Ours and the %s (`%s`)\n\n", peer.name, strings.Join(peer.args, " "))
	text.WriteString("| workload | pass | ours, CPU ns/msg | peer, CPU ns/msg | peer / ours | ours, msg/s | peer, msg/s |\n")
	text.WriteString("| --- | --- | ---: | ---: | ---: | ---: | ---: |\n")
	for _, w := range workloads {
		for pass, name := range passNames {
			ours, theirs := all[cell{w.name, oursName, pass}], all[cell{w.name, peer.name, pass}]
			if len(ours) == 0 || len(theirs) == 0 {
				continue
			}
			fmt.Fprintf(text, "| %s | %s | %v | %v | %.1f | %v | %v |\n", w.title, name, spreadOf(ours, cpu), spreadOf(theirs, cpu),
				spreadOf(theirs, cpu).median/spreadOf(ours, cpu).median, spreadOf(ours, rate), spreadOf(theirs, rate))
		}
	}
}

func writeAlone(text *strings.Builder, all results) {
	text.WriteString("\n| workload | pass | CPU ns/msg | msg/s |\n| --- | --- | ---: | ---: |\n")
	for _, w := range workloads {
		for pass, name := range passNames {
			if ours := all[cell{w.name, oursName, pass}]; len(ours) > 0 {
				fmt.Fprintf(text, "| %s | %s | %v | %v |\n", w.title, name, spreadOf(ours, cpu), spreadOf(ours, rate))
			}
		}
	}
}
