// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"slices"
	"testing"
	"time"
)

func at(begin time.Time, ms int, serial, err string) result {
	return result{start: begin.Add(time.Duration(ms) * time.Millisecond), latency: time.Millisecond, serial: serial, err: err}
}

func TestMeasureFailuresAndGap(t *testing.T) {
	begin := time.Unix(1000, 0)
	f := measure(begin, []result{
		at(begin, 100, "", "refused"), at(begin, 0, "a", ""), at(begin, 50, "a", ""), at(begin, 150, "", "refused"), at(begin, 200, "b", ""),
	})
	if f.Requests != 5 || f.Failed != 2 || f.Errors["refused"] != 2 {
		t.Errorf("counts: %+v", f)
	}
	if f.LongestGapMS != 150 || f.LongestPauseMS != 50 || f.FirstFailMS != 100 || f.LastFailMS != 150 {
		t.Errorf("times: %+v", f)
	}
	if !slices.Equal(f.SerialChanges, []string{"0 a", "200 b"}) {
		t.Errorf("serials: %v", f.SerialChanges)
	}
}

func TestMeasureNothing(t *testing.T) {
	f := measure(time.Unix(1000, 0), nil)
	if f.Requests != 0 || f.FirstFailMS != -1 || f.LastFailMS != -1 || len(f.SerialChanges) != 0 {
		t.Errorf("%+v", f)
	}
}

func TestSerialsBehindALoadBalancerAreNoChanges(t *testing.T) {
	begin := time.Unix(1000, 0)
	var results []result
	for i := range 100 {
		results = append(results, at(begin, i*50, []string{"a", "b", "c"}[i%3], ""))
	}
	results = append(results, at(begin, 20000, "b", ""))
	f := measure(begin, results)
	if !slices.Equal(f.SerialChanges, []string{"0 a", "50 b", "100 c", "20000 b"}) {
		t.Errorf("%v", f.SerialChanges)
	}
}

func TestSumOfTargets(t *testing.T) {
	begin := time.Unix(1000, 0)
	sum := summarise(begin, []job{{name: "u"}, {name: "v"}}, [][]result{
		{at(begin, 0, "a", ""), at(begin, 40, "", "EOF")},
		{at(begin, 0, "b", ""), at(begin, 20, "", "EOF"), at(begin, 70, "b", "")},
	})
	if sum.Requests != 5 || sum.Failed != 2 || sum.Errors["EOF"] != 2 || sum.FirstFailMS != 20 || sum.LastFailMS != 40 || sum.LongestGapMS != 70 || sum.LongestPauseMS != 50 {
		t.Errorf("%+v", sum.figures)
	}
	if len(sum.Targets) != 2 || sum.Targets[1].Requests != 3 {
		t.Errorf("%+v", sum.Targets)
	}
}
