// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// probe measures from outside how available API servers are: at a fixed pace it
// sends each of them an authenticated request over a fresh connection, and it may
// hold watches open. A summary in JSON is written when it is told to end (SIGINT,
// SIGTERM, --for). Exit status: 0 no request failed, 1 some did, 2 it could not run.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const defaultPath = "/api/v1/namespaces/default"

// options are the command line's.
type options struct {
	urls       []string
	writes     []string
	watches    []string
	every      time.Duration
	writeEvery time.Duration
	timeout    time.Duration
	duration   time.Duration
	kubeconfig string
	serverName string
	ca         string
	cert       string
	key        string
	out        string
	readyFile  string
	verbose    bool
}

func parseOptions() options {
	var o options
	flag.Func("url", "`URL` to request, repeatable (default: the kubeconfig's server + "+defaultPath+")", func(s string) error {
		o.urls = append(o.urls, s)
		return nil
	})
	flag.Func("write", "`PATH` or URL of a ConfigMap that exists, to be changed meanwhile, repeatable", func(s string) error {
		o.writes = append(o.writes, s)
		return nil
	})
	flag.Func("watch", "`PATH` or URL to watch meanwhile, repeatable, e.g. /api/v1/namespaces/default/configmaps", func(s string) error {
		o.watches = append(o.watches, s)
		return nil
	})
	flag.DurationVar(&o.every, "every", 50*time.Millisecond, "pace of the requests to each URL")
	flag.DurationVar(&o.writeEvery, "write-every", time.Second, "pace of the changes to each ConfigMap")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Second, "of one request; a slower one counts as failed")
	flag.DurationVar(&o.duration, "for", 0, "how long; 0: until SIGINT or SIGTERM, which always end it")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "`FILE` with server, CA and credentials of its current context, read once, at the start")
	flag.StringVar(&o.serverName, "servername", "kubernetes", "name to verify in the serving certificate")
	flag.StringVar(&o.ca, "ca", "", "CA certificate `FILE`, instead of the kubeconfig's")
	flag.StringVar(&o.cert, "cert", "", "client certificate `FILE`, instead of the kubeconfig's")
	flag.StringVar(&o.key, "key", "", "client key `FILE`, instead of the kubeconfig's")
	flag.StringVar(&o.out, "out", "", "`FILE` for the summary (default: standard output)")
	flag.StringVar(&o.readyFile, "ready-file", "", "`FILE` to make once every URL has answered")
	flag.BoolVar(&o.verbose, "v", false, "print failures as they happen, to standard error")
	flag.Parse()
	if flag.NArg() > 0 {
		fail(fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if o.every <= 0 || o.writeEvery <= 0 || o.timeout <= 0 {
		fail(fmt.Errorf("--every, --write-every and --timeout must be positive"))
	}
	return o
}

func main() {
	o := parseOptions()
	access, err := loadAccess(o)
	fail(err)
	urls, err := resolve(access.server, o.urls)
	fail(err)
	if len(urls) == 0 {
		urls, err = resolve(access.server, []string{defaultPath})
		fail(err)
	}
	writeURLs, err := resolve(access.server, o.writes)
	fail(err)
	watchURLs, err := resolve(access.server, o.watches)
	fail(err)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}

	begin := time.Now()
	var wg sync.WaitGroup
	watches := make([]watchReport, len(watchURLs))
	for i, u := range watchURLs {
		wg.Go(func() { watches[i] = watch(ctx, u, access, begin) })
	}
	jobs := jobsFor(urls, writeURLs, access, o)
	results := runAll(ctx, jobs, o, begin)
	wg.Wait()

	sum := summarise(begin, jobs, results)
	sum.Watches = watches
	fail(write(o.out, sum))
	if sum.Failed > 0 {
		os.Exit(1)
	}
}

// A job is one kind of request, made again and again at its own pace.
type job struct {
	name  string
	every time.Duration
	do    func() result
}

func jobsFor(urls, writes []string, a access, o options) []job {
	var jobs []job
	for _, u := range urls {
		jobs = append(jobs, job{u, o.every, func() result { return read(u, a, o.timeout) }})
	}
	for _, u := range writes {
		jobs = append(jobs, job{"PATCH " + u, o.writeEvery, func() result { return change(u, a, o.timeout) }})
	}
	return jobs
}

// runAll does each job at its own pace until ctx ends; a request under way then is still counted.
func runAll(ctx context.Context, jobs []job, o options, begin time.Time) [][]result {
	results := make([][]result, len(jobs))
	answered := make([]bool, len(jobs))
	waiting := len(jobs)
	var mu sync.Mutex
	var wg sync.WaitGroup
	record := func(i int, r result) {
		mu.Lock()
		defer mu.Unlock()
		results[i] = append(results[i], r)
		if r.err != "" {
			if o.verbose {
				fmt.Fprintf(os.Stderr, "%6d ms %s %s\n", r.start.Sub(begin).Milliseconds(), jobs[i].name, r.err)
			}
			return
		}
		if !answered[i] {
			answered[i] = true
			if waiting--; waiting == 0 && o.readyFile != "" {
				fail(os.WriteFile(o.readyFile, []byte("ready\n"), 0o644))
			}
		}
	}
	for i, j := range jobs {
		wg.Go(func() {
			tick := time.NewTicker(j.every)
			defer tick.Stop()
			for ctx.Err() == nil {
				wg.Go(func() { record(i, j.do()) })
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
	return results
}

func resolve(server string, given []string) ([]string, error) {
	var out []string
	for _, g := range given {
		u, err := url.Parse(g)
		if err != nil {
			return nil, err
		}
		if u.Host == "" {
			if server == "" {
				return nil, fmt.Errorf("%s names no server: give a whole URL or --kubeconfig", g)
			}
			base, err := url.Parse(server)
			if err != nil {
				return nil, err
			}
			u = base.ResolveReference(u)
		} else if u.Path == "" {
			u.Path = defaultPath
		}
		out = append(out, u.String())
	}
	return out, nil
}

// write replaces the file at once, so that nobody reads half a summary.
func write(path string, sum summary) error {
	data, err := json.MarshalIndent(sum, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "" {
		_, err = os.Stdout.Write(data)
		return err
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(2)
	}
}
