package options

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/nsqloop/nsqloop/cmd/internal/logging"
)

// wordKeys are the keys whose values are words of a fixed set, in the order they are checked.
var wordKeys = []string{"tls_required", "tls_min_version", "log_level", "log_format", "sync_policy", "profile"}

// loadFile reads the keys of a flat TOML file into the options that no flag has set. Unknown keys are ignored.
func loadFile(path string, o holder, set map[string]bool) *Exit {
	var file map[string]any
	if _, err := toml.DecodeFile(path, &file); err != nil {
		return &Exit{Code: 1, Fatal: fmt.Sprintf("failed to load config file %s - %s", path, err)}
	}
	// Words are checked before everything else, and also when a flag overrides them: a bad one is a mistake either way.
	for _, key := range wordKeys {
		if v, ok := file[key]; ok {
			if err := checkWord(o, key, v); err != nil {
				return &Exit{Code: 1, Fatal: fmt.Sprintf("failed parsing %s %v", key, v)}
			}
		}
	}
	for _, e := range o.entries() {
		v, ok := file[e.key]
		if !ok || e.key == "" || set[e.flag] {
			continue
		}
		before := fmt.Sprint(value(e))
		if err := setTOML(e, v); err != nil {
			return &Exit{Code: 1, Stderr: bareLine(fmt.Sprintf("ERROR: Resolve failed to coerce value %v (%s) for field %s - %s",
				v, before, fieldName(o, e), err))}
		}
	}
	return nil
}

// checkWord tries v and puts back what was there, so that a flag given for the same option keeps its value. A key that is not in the table is
// like any other unknown key.
func checkWord(o holder, key string, v any) error {
	for _, e := range o.entries() {
		if e.key == key {
			before := reflect.ValueOf(value(e))
			err := setTOML(e, v)
			reflect.ValueOf(e.field).Elem().Set(before)
			return err
		}
	}
	return nil
}

// setTOML converts one value of the file. Numbers and booleans may be quoted, a list may be one string with commas, an integer duration
// is in milliseconds, and an integer boolean is inverted: that is what configuration files written for the stock daemon mean.
func setTOML(e entry, v any) (err error) {
	switch p := e.field.(type) {
	case *string:
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("invalid string value type %T", v)
		}
		*p = s
	case *bool:
		*p, err = tomlBool(v)
	case *int:
		var n int64
		if n, err = tomlInt(v); err == nil {
			*p = int(n)
		}
	case *int64:
		*p, err = tomlInt(v)
	case *time.Duration:
		*p, err = tomlDuration(v)
	case *[]string:
		*p, err = tomlStrings(v)
	case *Percentiles:
		*p, err = tomlFloats(v)
	case *logging.Level:
		err = levelFlag{p}.Set(fmt.Sprint(v))
	case *logging.Format:
		err = formatFlag{p}.Set(fmt.Sprint(v))
	case interface{ Set(string) error }:
		err = p.Set(fmt.Sprint(v))
	default:
		panic(fmt.Sprintf("BUG: option %s has a field of type %T", e.flag, e.field))
	}
	return err
}

func tomlBool(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		return strconv.ParseBool(v)
	case int64:
		return v == 0, nil
	}
	return false, fmt.Errorf("invalid bool value type %T", v)
}

func tomlInt(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case string:
		return strconv.ParseInt(v, 10, 64)
	}
	return 0, fmt.Errorf("invalid int64 value type %T", v)
}

func tomlDuration(v any) (time.Duration, error) {
	switch v := v.(type) {
	case int64:
		return time.Duration(v) * time.Millisecond, nil
	case string:
		return time.ParseDuration(v)
	}
	return 0, fmt.Errorf("invalid time.Duration value type %T", v)
}

func tomlStrings(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return strings.Split(v, ","), nil
	case []any:
		list := make([]string, 0, len(v))
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("invalid list element type %T", item)
			}
			list = append(list, s)
		}
		return list, nil
	}
	return nil, fmt.Errorf("invalid []string value type %T", v)
}

func tomlFloats(v any) (Percentiles, error) {
	var list Percentiles
	switch v := v.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			f, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
			if err != nil {
				return nil, err
			}
			list = append(list, f)
		}
		return list, nil
	case []any:
		for _, item := range v {
			f, ok := item.(float64)
			if !ok {
				return nil, fmt.Errorf("invalid list element type %T", item)
			}
			list = append(list, f)
		}
		return list, nil
	}
	return nil, fmt.Errorf("invalid []float64 value type %T", v)
}

// fieldName finds the name of the field that e fills, for messages.
func fieldName(o holder, e entry) string {
	fields := reflect.ValueOf(o).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).Addr().Pointer() == reflect.ValueOf(e.field).Pointer() {
			return fields.Type().Field(i).Name
		}
	}
	return e.key
}
