package options

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
)

// SyncPolicy is what an acknowledged publish means for the disk.
type SyncPolicy string

// SyncInterval: in the kernel's pages, synced every --sync-timeout. SyncAlways: synced before it is acknowledged.
const (
	SyncInterval SyncPolicy = "interval"
	SyncAlways   SyncPolicy = "always"
)

// Set parses a flag value.
func (p *SyncPolicy) Set(s string) error {
	switch SyncPolicy(s) {
	case SyncInterval, SyncAlways:
		*p = SyncPolicy(s)
		return nil
	}
	return fmt.Errorf("invalid sync policy '%s' (interval, always)", s)
}

func (p *SyncPolicy) String() string { return string(*p) }

// Profile names the profile that is written from start to stop; "" = none.
type Profile string

// Set parses a flag value.
func (p *Profile) Set(s string) error {
	if s != "" && !slices.Contains([]string{"cpu", "mem", "mutex", "block", "trace"}, s) {
		return fmt.Errorf("invalid profile '%s' (cpu, mem, mutex, block, trace)", s)
	}
	*p = Profile(s)
	return nil
}

func (p *Profile) String() string { return string(*p) }

// TLSRequired says where plain connections are refused. The numbers are answers of GET /config/tls_required.
type TLSRequired int

// TLSRequiredExceptHTTP is the flag value tcp-https: plain HTTP stays open.
const (
	TLSNotRequired TLSRequired = iota
	TLSRequiredExceptHTTP
	TLSRequiredEverywhere
)

// Set parses a flag value.
func (t *TLSRequired) Set(s string) error {
	s = strings.ToLower(s)
	if s == "tcp-https" {
		*t = TLSRequiredExceptHTTP
		return nil
	}
	required, err := strconv.ParseBool(s)
	if err != nil {
		return err
	}
	*t = TLSNotRequired
	if required {
		*t = TLSRequiredEverywhere
	}
	return nil
}

func (t *TLSRequired) String() string {
	switch *t {
	case TLSRequiredExceptHTTP:
		return "tcp-https"
	case TLSRequiredEverywhere:
		return "true"
	}
	return "false"
}

// IsBoolFlag lets --tls-required stand alone.
func (t *TLSRequired) IsBoolFlag() bool { return true }

// TLSMinVersion is a version number of crypto/tls.
type TLSMinVersion uint16

const tls10 TLSMinVersion = 0x0301

var tlsVersions = []string{"tls1.0", "tls1.1", "tls1.2", "tls1.3"}

// Set parses a flag value; "" is the default.
func (v *TLSMinVersion) Set(s string) error {
	s = strings.ToLower(s)
	if s == "" {
		*v = tls10
		return nil
	}
	i := slices.Index(tlsVersions, s)
	if i < 0 {
		return fmt.Errorf("unknown tlsVersionOption %q", s)
	}
	*v = tls10 + TLSMinVersion(i)
	return nil
}

func (v *TLSMinVersion) String() string {
	if i := int(*v) - int(tls10); i >= 0 && i < len(tlsVersions) {
		return tlsVersions[i]
	}
	return ""
}

// Percentiles are fractions in (0, 1]: from flags sorted from high to low, from the file as written.
type Percentiles []float64

// repeatFlag collects one string per occurrence. The first occurrence replaces what was there before the command line.
type repeatFlag struct {
	list *[]string
	seen bool
}

func (r *repeatFlag) Set(s string) error {
	if !r.seen {
		*r.list, r.seen = nil, true
	}
	*r.list = append(*r.list, s)
	return nil
}

func (r *repeatFlag) String() string {
	if r.list == nil {
		return ""
	}
	return strings.Join(*r.list, ",")
}

// percentileFlag collects numbers; a value may hold several, separated by commas.
type percentileFlag struct {
	list  *Percentiles
	seen  bool
	onBad func(text string) // told about text that is no number, which ends the process in its own way
}

func (p *percentileFlag) Set(s string) error {
	if !p.seen {
		*p.list, p.seen = nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil {
			p.onBad(part)
			return err
		}
		*p.list = append(*p.list, f)
	}
	slices.Sort(*p.list)
	slices.Reverse(*p.list)
	return nil
}

func (p *percentileFlag) String() string {
	if p.list == nil {
		return ""
	}
	return fmt.Sprint([]float64(*p.list))
}

// levelFlag and formatFlag give the logging types a Set.
type levelFlag struct{ level *logging.Level }

func (f levelFlag) Set(s string) (err error) {
	level, err := logging.ParseLevel(s)
	if err == nil {
		*f.level = level
	}
	return err
}

func (f levelFlag) String() string {
	if f.level == nil {
		return ""
	}
	return f.level.String()
}

type formatFlag struct{ format *logging.Format }

func (f formatFlag) Set(s string) error {
	format, err := logging.ParseFormat(s)
	if err == nil {
		*f.format = format
	}
	return err
}

func (f formatFlag) String() string {
	if f.format == nil {
		return ""
	}
	return f.format.String()
}
