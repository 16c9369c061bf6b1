package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// writeConditions says on what the figures were taken.
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
	fmt.Fprintf(text, "Bodies of %d random bytes where nothing else is said, %s%d runs at scale %g, median (lowest-highest).\n",
		o.size, o.layers(), o.runs, o.scale)
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
