package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// Verify runs the binary's --verify on a directory that no daemon has open. clean is its verdict, text what it printed; the error says that
// it could not read the directory.
func Verify(ctx context.Context, path, dir string) (clean bool, text string, err error) {
	out, err := exec.CommandContext(ctx, path, "--verify="+dir).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, string(out), nil
	}
	if err != nil {
		return false, string(out), fmt.Errorf("%s --verify=%s: %w\n%s", path, dir, err, out)
	}
	return true, string(out), nil
}
