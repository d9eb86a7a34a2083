package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"meshgate/lab/apps/internal/bookinfo"
)

// timeout bounds each request to another service.
const timeout = 3 * time.Second

// services asks the other three, and counts what they answered.
type services struct {
	urls   map[string]string
	client *http.Client
	mutex  sync.Mutex
	counts map[string]int // a series of /metrics -> its value
}

func newServices(getenv func(string) string) *services {
	s := &services{urls: map[string]string{}, counts: map[string]int{}}
	for _, name := range []string{"details", "reviews", "ratings"} {
		s.urls[name] = bookinfo.ServiceURL(getenv, name)
	}
	// As in the original a connection serves one request: without a mesh too, each goes to any of the pods.
	s.client = &http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return s
}

// ask gives the service's status and JSON; when no attempt got a 200, the last status (500: there was no answer) and
// the text that the page shows.
func (s *services) ask(ctx context.Context, service, product string, header http.Header) (int, json.RawMessage) {
	attempts := 1
	if service == "reviews" {
		attempts = 2
	}
	status, body := 0, json.RawMessage(nil)
	for range attempts {
		var err error
		if status, body, err = s.get(ctx, s.urls[service]+"/"+product, header); err != nil {
			log.Printf("%s: %v", service, err)
		}
		if status == http.StatusOK {
			break
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counts[fmt.Sprintf(`destination_app="%s",response_code="%d"`, service, status)]++
	if status != http.StatusOK {
		body = fmt.Appendf(nil, `{"error": "Sorry, product %s are currently unavailable for this book."}`, service)
	}
	return status, body
}

func (s *services) get(ctx context.Context, url string, header http.Header) (int, json.RawMessage, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return http.StatusInternalServerError, nil, err
	}
	request.Header = header
	response, err := s.client.Do(request)
	if err != nil {
		return http.StatusInternalServerError, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK && !json.Valid(body) {
		err = fmt.Errorf("%s answered with what is no JSON", url)
	}
	if err != nil {
		return http.StatusInternalServerError, nil, err
	}
	return response.StatusCode, body, nil
}

// metrics is the counts in Prometheus' text format.
func (s *services) metrics() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	text := "# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n"
	for _, series := range slices.Sorted(maps.Keys(s.counts)) {
		text += fmt.Sprintf("request_result_total{%s} %d\n", series, s.counts[series])
	}
	return text
}

// forwarded is what a call to another service takes along: the user of the session (never an end-user that a client
// sends), the trace, and the headers that all of Bookinfo passes on.
func forwarded(r *http.Request) http.Header {
	header := http.Header{"Accept": {"*/*"}}
	bookinfo.PassOn(r.Header, header)
	passOnB3(r.Header, header)
	if user := sessionUser(r); user != "" {
		header.Set("end-user", user)
	}
	return header
}

// passOnB3 does what the original's B3 propagator does: it reads either form and writes the one of several headers,
// with the span alone, not its parent; a trace of which nothing says that it is sampled is not.
func passOnB3(from, to http.Header) {
	trace, span, sampled := from.Get("x-b3-traceid"), from.Get("x-b3-spanid"), from.Get("x-b3-sampled")
	if from.Get("x-b3-flags") == "1" {
		sampled = "1"
	}
	if single := strings.Split(from.Get("b3"), "-"); len(single) >= 2 {
		trace, span, sampled = single[0], single[1], ""
		if len(single) > 2 {
			sampled = single[2]
		}
	}
	if trace == "" || span == "" {
		return
	}
	to.Set("x-b3-traceid", trace)
	to.Set("x-b3-spanid", span)
	to.Set("x-b3-sampled", map[string]string{"1": "1", "d": "1", "true": "1"}[strings.ToLower(sampled)])
	if to.Get("x-b3-sampled") == "" {
		to.Set("x-b3-sampled", "0")
	}
}
