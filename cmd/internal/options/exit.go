package options

import (
	"io"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
)

// Leave ends a run of program that never began: it prints what x says and returns the exit status.
func (x *Exit) Leave(program string, stdout, stderr io.Writer) int {
	if _, err := io.WriteString(stdout, x.Stdout); err != nil {
		return 1
	}
	if _, err := io.WriteString(stderr, x.Stderr); err != nil {
		return 1
	}
	if x.Fatal != "" {
		logging.StartupFatal(stderr, program, logging.Text, x.Fatal)
	}
	return x.Code
}
