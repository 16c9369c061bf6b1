// Package version holds the one version number of all daemons and tools of this module.
package version

import (
	"runtime"
	"strings"
)

// Number is what every reply, file and start-up line reports. The part before the plus sign is the NSQ release whose behaviour is
// reproduced, so clients that compare versions see that release; the part after it (semver build metadata) is our own release.
const Number = "1.3.0+nsqloop.0.1.0"

// Line is the answer to --version and the first line of the log: program, version, Go release.
func Line(program string) string {
	return program + " v" + Number + " (built w/" + runtime.Version() + ")"
}

// Ours tells whether a file was written by a daemon of this module, of any release.
func Ours(number string) bool { return strings.Contains(number, "+nsqloop") }
