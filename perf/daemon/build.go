package daemon

import (
	"context"
	"fmt"
	"os/exec"
)

// Package is the import path of this project's nsqd.
const Package = "github.com/nsqloop/nsqloop/cmd/nsqd"

// Build compiles this project's nsqd to the file out, with further flags of go build (-race, -tags mutants). It must run
// somewhere inside the module. The error carries the compiler's words.
func Build(ctx context.Context, out string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	text, err := exec.CommandContext(ctx, "go", append(args, Package)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", Package, err, text)
	}
	return nil
}
