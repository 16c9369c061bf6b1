package daemon

import (
	"context"
	"fmt"
	"os/exec"
)

const module = "github.com/nsqloop/nsqloop/"

// Package is the import path of this project's nsqd.
const Package = module + "cmd/nsqd"

// LookupPackage is the import path of this project's nsqlookupd.
const LookupPackage = module + "cmd/nsqlookupd"

// Build compiles this project's nsqd to the file out, with further flags of go build (-race, -tags mutants). It must run
// somewhere inside the module. The error carries the compiler's words.
func Build(ctx context.Context, out string, flags ...string) error {
	return BuildPackage(ctx, out, Package, flags...)
}

// BuildPackage compiles any command of this project.
func BuildPackage(ctx context.Context, out, pkg string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	text, err := exec.CommandContext(ctx, "go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// BuildTest compiles the tests of a package of the project, named by its folder, to the file out. The tests must not need their folder.
func BuildTest(ctx context.Context, out, folder string, flags ...string) error {
	args := append([]string{"test", "-c", "-o", out}, flags...)
	text, err := exec.CommandContext(ctx, "go", append(args, module+folder)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test -c %s: %w\n%s", folder, err, text)
	}
	return nil
}
