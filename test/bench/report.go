package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report gathers figures.
type report struct {
	slack float64
	rows  []row
}

type row struct {
	name          string
	median, p95   string
	value, bound  float64 // of the median; bound 0 is none
	boundInFigure string
}

// times adds a figure of many; bound is in milliseconds.
func (r *report) times(name string, all []time.Duration, bound float64) {
	median := milliseconds(percentile(all, 50))
	r.rows = append(r.rows, row{
		name: name, median: fmt.Sprintf("%.2f ms", median), p95: fmt.Sprintf("%.2f ms", milliseconds(percentile(all, 95))),
		value: median, bound: bound, boundInFigure: fmt.Sprintf("%.0f ms", bound),
	})
}

// p99 adds a figure of many whose 99th percentile counts; bound is in milliseconds.
func (r *report) p99(name string, all []time.Duration, bound float64) {
	r.rows = append(r.rows, row{
		name: name + ", p99", median: fmt.Sprintf("%.2f ms", milliseconds(percentile(all, 99))),
		value: milliseconds(percentile(all, 99)), bound: bound, boundInFigure: fmt.Sprintf("%.0f ms", bound),
	})
}

// value adds a figure that was taken once.
func (r *report) value(name, format string, value, bound float64) {
	r.rows = append(r.rows, row{name: name, median: fmt.Sprintf(format, value), value: value, bound: bound, boundInFigure: fmt.Sprintf(format, bound)})
}

// percentile returns the smallest value that p percent of all are not above.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// over names the figures that are over their bound times the slack.
func (r *report) over() []string {
	var out []string
	for _, row := range r.rows {
		if row.bound > 0 && row.value > row.bound*r.slack {
			out = append(out, strings.TrimSpace(row.name))
		}
	}
	return out
}

func (r *report) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tMEDIAN\tP95\tBOUND\t")
	for _, row := range r.rows {
		bound, verdict := "", ""
		if row.bound > 0 {
			bound, verdict = row.boundInFigure, "ok"
			if row.value > row.bound {
				verdict = "over"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", row.name, row.median, row.p95, bound, verdict)
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	if r.slack != 1 {
		fmt.Fprintf(&text, "(-check allows %g times the bounds: for machines that others use too)\n", r.slack)
	}
	return text.String()
}
