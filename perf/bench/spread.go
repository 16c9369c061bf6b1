package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// spread is a median with the range around it.
type spread struct{ median, low, high float64 }

// spreadOf panics without samples.
func spreadOf(samples []sample, value func(sample) float64) spread {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	slices.Sort(values)
	n := len(values)
	return spread{median: (values[(n-1)/2] + values[n/2]) / 2, low: values[0], high: values[n-1]}
}

func value(s sample) float64 { return s.value }
func busy(s sample) float64  { return s.busy }
func rate(s sample) float64  { return s.rate }

// String is "median (low-high)", or the one value there is.
func (s spread) String() string {
	if s.low == s.high || math.IsNaN(s.low) {
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.median), number(s.low), number(s.high))
}

// number is a whole number with commas, or below 100 three significant digits.
func number(value float64) string {
	if math.IsNaN(value) {
		return "-" // not measured for this subject
	}
	if math.Abs(value) < 99.95 {
		short, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 3, 64), 64) // parses what it has written
		return strconv.FormatFloat(short, 'f', -1, 64)
	}
	digits := strconv.FormatFloat(value, 'f', 0, 64)
	for at := len(digits) - 3; at > 0; at -= 3 {
		if digits[at-1] != '-' {
			digits = digits[:at] + "," + digits[at:]
		}
	}
	return digits
}
