// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"slices"
	"time"
)

// serialMemory is how long a serving certificate has to be away for its return to be a change. Behind a load
// balancer several alternate, which is none.
const serialMemory = 5 * time.Second

// figures are the measurements of one URL, or of all together. Times are milliseconds after the probe's start.
type figures struct {
	Requests       int            `json:"requests"`
	Failed         int            `json:"failed"`
	Errors         map[string]int `json:"errors"`
	LongestGapMS   int64          `json:"longest_gap_ms"`   // between the starts of consecutive successful requests
	LongestPauseMS int64          `json:"longest_pause_ms"` // between the starts of consecutive requests: beyond the pace, the probe itself waited
	FirstFailMS    int64          `json:"first_fail_ms"`    // -1: none
	LastFailMS     int64          `json:"last_fail_ms"`     // -1: none
	P50MS          float64        `json:"p50_ms"`
	MaxMS          float64        `json:"max_ms"`
	SerialChanges  []string       `json:"serial_changes"` // "<ms> <serial>" of the serving certificate; the first entry is the first one seen
}

type target struct {
	URL string `json:"url"`
	figures
}

// summary is the probe's output. Its own figures are those of all targets: sums, and the worst of each.
type summary struct {
	Begin float64 `json:"begin"` // Unix time
	End   float64 `json:"end"`
	figures
	Targets []target      `json:"targets"`
	Watches []watchReport `json:"watches"`
}

func summarise(begin time.Time, jobs []job, results [][]result) summary {
	sum := summary{Begin: unix(begin), End: unix(time.Now()), figures: newFigures()}
	for i, j := range jobs {
		f := measure(begin, results[i])
		sum.Targets = append(sum.Targets, target{j.name, f})
		sum.add(f)
	}
	return sum
}

func newFigures() figures {
	return figures{Errors: map[string]int{}, FirstFailMS: -1, LastFailMS: -1, SerialChanges: []string{}}
}

func (f *figures) add(g figures) {
	f.Requests += g.Requests
	f.Failed += g.Failed
	for text, n := range g.Errors {
		f.Errors[text] += n
	}
	f.LongestGapMS = max(f.LongestGapMS, g.LongestGapMS)
	f.LongestPauseMS = max(f.LongestPauseMS, g.LongestPauseMS)
	if g.FirstFailMS >= 0 && (f.FirstFailMS < 0 || g.FirstFailMS < f.FirstFailMS) {
		f.FirstFailMS = g.FirstFailMS
	}
	f.LastFailMS = max(f.LastFailMS, g.LastFailMS)
	f.P50MS = max(f.P50MS, g.P50MS)
	f.MaxMS = max(f.MaxMS, g.MaxMS)
	f.SerialChanges = append(f.SerialChanges, g.SerialChanges...)
}

func measure(begin time.Time, results []result) figures {
	slices.SortFunc(results, func(a, b result) int { return a.start.Compare(b.start) })
	f := newFigures()
	f.Requests = len(results)
	last, lastOK := begin, begin
	seen := map[string]time.Time{}
	var latencies []time.Duration
	for _, r := range results {
		at := r.start.Sub(begin).Milliseconds()
		latencies = append(latencies, r.latency)
		f.LongestPauseMS = max(f.LongestPauseMS, r.start.Sub(last).Milliseconds())
		last = r.start
		if r.err != "" {
			f.Failed++
			f.Errors[r.err]++
			f.LastFailMS = at
			if f.FirstFailMS < 0 {
				f.FirstFailMS = at
			}
			continue
		}
		f.LongestGapMS = max(f.LongestGapMS, r.start.Sub(lastOK).Milliseconds())
		lastOK = r.start
		if shown, known := seen[r.serial]; !known || r.start.Sub(shown) > serialMemory {
			f.SerialChanges = append(f.SerialChanges, fmt.Sprintf("%d %s", at, r.serial))
		}
		seen[r.serial] = r.start
	}
	if n := len(results); n > 0 {
		f.LongestGapMS = max(f.LongestGapMS, results[n-1].start.Sub(lastOK).Milliseconds())
		slices.Sort(latencies)
		f.P50MS = milliseconds(latencies[n/2])
		f.MaxMS = milliseconds(latencies[n-1])
	}
	return f
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
func unix(t time.Time) float64             { return float64(t.UnixMilli()) / 1000 }
