// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// result is what became of one request.
type result struct {
	start   time.Time
	latency time.Duration
	err     string // empty: status 200
	serial  string // of the serving certificate
}

func client(a access, timeout time.Duration) http.Client {
	// Proxy stays nil: no proxy of the environment comes between the probe and the server.
	return http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: a.tls, DisableKeepAlives: true}}
}

func send(ctx context.Context, method, u string, body io.Reader, a access, timeout time.Duration) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	c := client(a, timeout)
	return c.Do(req)
}

func read(u string, a access, timeout time.Duration) result {
	return request(http.MethodGet, u, nil, a, timeout)
}

// change writes the time into a ConfigMap: a request that the API server must pass on to etcd.
func change(u string, a access, timeout time.Duration) result {
	body := fmt.Sprintf(`{"data": {"probe": "%d"}}`, time.Now().UnixNano())
	return request(http.MethodPatch, u, strings.NewReader(body), a, timeout)
}

func request(method, u string, body io.Reader, a access, timeout time.Duration) (r result) {
	r.start = time.Now()
	resp, err := send(context.Background(), method, u, body, a, timeout)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		r.serial = serialOf(resp.TLS)
	}
	r.latency = time.Since(r.start)
	if err == nil && resp.StatusCode != http.StatusOK {
		r.err = fmt.Sprintf("HTTP %d", resp.StatusCode)
	} else {
		r.err = cause(err)
	}
	return r
}

func serialOf(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	return state.PeerCertificates[0].SerialNumber.Text(16)
}

// cause is an error in a word or a few; empty for none.
func cause(err error) string {
	var netErr net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "unexpected EOF"
	case errors.Is(err, io.EOF):
		return "EOF"
	}
	text := err.Error()
	return text[strings.LastIndex(text, ": ")+1:]
}

// watchReport tells what happened to one watch, which is opened again whenever it ends.
type watchReport struct {
	URL    string       `json:"url"`
	Opened int          `json:"opened"` // connections on which the server began the watch
	Events int          `json:"events"`
	Breaks []watchBreak `json:"breaks"`
}

type watchBreak struct {
	AtMS       int64  `json:"at_ms"`        // after the probe's start
	Cause      string `json:"cause"`        // "EOF": the server ended the stream in order
	LastedMS   int64  `json:"lasted_ms"`    // how long the watch had been open
	AwayMS     int64  `json:"away_ms"`      // until the next one was open; -1: none was
	FailedOpen int    `json:"failed_opens"` // attempts that failed meanwhile
}

func watch(ctx context.Context, u string, a access, begin time.Time) watchReport {
	rep := watchReport{URL: u, Breaks: []watchBreak{}}
	parsed, err := url.Parse(u)
	fail(err)
	query := parsed.Query()
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("timeoutSeconds", "7200") // else the server ends it by itself after 30 to 60 minutes
	parsed.RawQuery = query.Encode()

	for ctx.Err() == nil {
		resp, err := send(ctx, http.MethodGet, parsed.String(), nil, a, 0)
		if err == nil && resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			err = fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		if err != nil {
			if n := len(rep.Breaks); n > 0 {
				rep.Breaks[n-1].FailedOpen++
			} else if ctx.Err() == nil {
				rep.Breaks = append(rep.Breaks, watchBreak{AtMS: time.Since(begin).Milliseconds(), Cause: cause(err), AwayMS: -1})
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		opened := time.Now()
		rep.Opened++
		if n := len(rep.Breaks); n > 0 {
			rep.Breaks[n-1].AwayMS = opened.Sub(begin).Milliseconds() - rep.Breaks[n-1].AtMS
		}
		err = readEvents(resp.Body, &rep.Events)
		resp.Body.Close()
		if ctx.Err() == nil {
			rep.Breaks = append(rep.Breaks, watchBreak{
				AtMS: time.Since(begin).Milliseconds(), Cause: cause(err), LastedMS: time.Since(opened).Milliseconds(), AwayMS: -1,
			})
		}
	}
	return rep
}

func readEvents(body io.Reader, events *int) error {
	for decoder := json.NewDecoder(body); ; *events++ {
		var event json.RawMessage
		if err := decoder.Decode(&event); err != nil {
			return err
		}
	}
}
