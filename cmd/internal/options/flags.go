package options

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
)

// Exit says that the process must end instead of serving: what to print where, and the exit status.
type Exit struct {
	Code   int
	Stdout string
	Stderr string
	Fatal  string // the text of one FATAL log line; "" = none
}

// Load reads nsqd's command line (without the program's name), then the file it names, over the defaults. Exactly one result is nil.
func Load(program string, args []string) (*Nsqd, *Exit) {
	o := Default()
	if exit := fill(program, o, &o.Config, &o.Version, args); exit != nil {
		return nil, exit
	}
	return o, nil
}

// holder is the options of one daemon, described by its table.
type holder interface{ entries() []entry }

// fill sets o from the command line and the file that config then names. nil: the process goes on.
func fill(program string, o holder, config *string, showVersion *bool, args []string) *Exit {
	set, exit := parseFlags(program, o, args)
	switch {
	case exit != nil:
		return exit
	case *showVersion:
		return &Exit{Stdout: version.Line(program) + "\n"}
	case *config != "":
		return loadFile(*config, o, set)
	}
	return nil
}

// parseFlags fills o and returns the names of the flags that were given.
func parseFlags(program string, o holder, args []string) (map[string]bool, *Exit) {
	var out bytes.Buffer
	var badPercentile *Exit
	fs := flag.NewFlagSet(program, flag.ContinueOnError)
	fs.SetOutput(&out)
	for _, e := range o.entries() {
		define(fs, e, func(text string) { badPercentile = &Exit{Code: 1, Stderr: bareLine("Could not parse: " + text)} })
	}
	switch err := fs.Parse(args); {
	case badPercentile != nil:
		return nil, badPercentile
	case errors.Is(err, flag.ErrHelp):
		return nil, &Exit{Stderr: out.String()}
	case err != nil:
		return nil, &Exit{Code: 2, Stderr: out.String()}
	}
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	return set, nil
}

// bareLine is a log line without prefix and level, as the stock daemon writes what fails before its logger exists.
func bareLine(text string) string {
	return fmt.Sprintf("%s %s\n", time.Now().Format("2006/01/02 15:04:05"), text)
}

// define adds the flag of e to fs. The default shown by -h is the value the field has now.
func define(fs *flag.FlagSet, e entry, onBadPercentile func(text string)) {
	switch p := e.field.(type) {
	case *string:
		fs.StringVar(p, e.flag, *p, e.usage)
	case *bool:
		fs.BoolVar(p, e.flag, *p, e.usage)
	case *int:
		fs.IntVar(p, e.flag, *p, e.usage)
	case *int64:
		fs.Int64Var(p, e.flag, *p, e.usage)
	case *time.Duration:
		fs.DurationVar(p, e.flag, *p, e.usage)
	case *[]string:
		fs.Var(&repeatFlag{list: p}, e.flag, e.usage)
	case *Percentiles:
		fs.Var(&percentileFlag{list: p, onBad: onBadPercentile}, e.flag, e.usage)
	case *logging.Level:
		fs.Var(levelFlag{p}, e.flag, e.usage)
	case *logging.Format:
		fs.Var(formatFlag{p}, e.flag, e.usage)
	case flag.Value: // *SyncPolicy, *Profile, *TLSRequired, *TLSMinVersion
		fs.Var(p, e.flag, e.usage)
	default:
		panic(fmt.Sprintf("BUG: option %s has a field of type %T", e.flag, e.field))
	}
}
