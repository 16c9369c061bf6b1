package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// image is an ext4 file system in a file, mounted. What a power cut would leave of it is a copy of that file: the page cache of the mounted
// file system is not in it.
type image struct {
	dir   string // holds the file and the mount point
	file  string
	mount string
	live  bool
	next  int
}

const (
	imageSize = 512 << 20
	// The journal commits when it is asked to, not by time: nothing becomes durable by luck.
	mountOptions = "loop,commit=1000"
)

func command(ctx context.Context, name string, args ...string) error {
	text, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w %s", name, strings.Join(args, " "), err, text)
	}
	return nil
}

// newImage makes and mounts an empty one below dir.
func newImage(ctx context.Context, dir string, size int64) (*image, error) {
	root, err := os.MkdirTemp(dir, "crash-image-")
	if err != nil {
		return nil, err
	}
	m := &image{dir: root, file: filepath.Join(root, "0.ext4"), mount: filepath.Join(root, "mnt")}
	err = errors.Join(os.Mkdir(m.mount, 0o700), os.WriteFile(m.file, nil, 0o600))
	if err == nil {
		err = os.Truncate(m.file, size)
	}
	if err == nil {
		err = command(ctx, "mkfs.ext4", "-q", "-F", m.file)
	}
	if err == nil {
		err = m.attach(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, m.remove())
	}
	return m, nil
}

// mountable is why no image can be mounted by this process, or nil.
func mountable(ctx context.Context, dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("that needs root")
	}
	m, err := newImage(ctx, dir, 16<<20)
	if err != nil {
		return err
	}
	return m.remove()
}

func (m *image) attach(ctx context.Context) error {
	err := command(ctx, "mount", "-o", mountOptions, m.file, m.mount)
	m.live = err == nil
	return err
}

// detach unmounts; it is not told of an end of the run.
func (m *image) detach() error {
	if !m.live {
		return nil
	}
	err := command(context.Background(), "umount", m.mount)
	m.live = err != nil
	return err
}

// snapshot copies the file as it is on the medium.
func (m *image) snapshot(ctx context.Context) (string, error) {
	m.next++
	copied := filepath.Join(m.dir, fmt.Sprintf("%d.ext4", m.next))
	return copied, command(ctx, "cp", "--sparse=always", m.file, copied)
}

// replace goes on with a snapshot in place of what is mounted, as the machine would after the cut: the journal is replayed.
func (m *image) replace(ctx context.Context, snapshot string) error {
	if err := errors.Join(m.detach(), os.Remove(m.file)); err != nil {
		return err
	}
	m.file = snapshot
	return m.attach(ctx)
}

func (m *image) remove() error {
	if err := m.detach(); err != nil {
		return err // what is still mounted must not be removed through the mount
	}
	return os.RemoveAll(m.dir)
}

// awaitStopped returns when every thread of a process that got SIGSTOP stands still: one that was in the middle of a sync ends that first.
func awaitStopped(ctx context.Context, pid int) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		standing := 0
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if err != nil {
				return err
			}
			_, rest, _ := strings.Cut(string(text), ") ")
			if strings.HasPrefix(rest, "T") {
				standing++
			}
		}
		if len(tasks) > 0 && standing == len(tasks) {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
