package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const stars = `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`

func ask(s *service, method, path, body string) (int, string) {
	recorder := httptest.NewRecorder()
	s.handler().ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
	return recorder.Code, recorder.Body.String()
}

func TestRatings(t *testing.T) {
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/ratings/0", "", 200, stars},
		{"GET", "/ratings/0x", "", 200, stars},
		{"GET", "/ratings/x", "", 400, `{"error":"please provide numeric product ID"}`},
		{"GET", "/ratings/", "", 400, `{"error":"please provide numeric product ID"}`},
		{"GET", "/health", "", 200, `{"status":"Ratings is healthy"}`},
		{"POST", "/ratings/0", `{"Reviewer1": 1}`, 200, `{"id":0,"ratings":{"Reviewer1":1}}`},
		{"POST", "/ratings/0", "stars", 400, `{"error":"please provide valid ratings JSON"}`},
		{"POST", "/ratings/x", "{}", 400, `{"error":"please provide numeric product ID"}`},
	} {
		status, body := ask(newService("v1"), test.method, test.path, test.body)
		if status != test.status || body != test.want {
			t.Errorf("%s %s: %d %s", test.method, test.path, status, body)
		}
	}
}

func TestWhatIsPostedStaysForItsProduct(t *testing.T) {
	s := newService("v1")
	ask(s, "POST", "/ratings/0", `{"Reviewer1":2}`)
	if _, body := ask(s, "GET", "/ratings/0", ""); body != `{"id":0,"ratings":{"Reviewer1":2}}` {
		t.Errorf("product 0: %s", body)
	}
	if _, body := ask(s, "GET", "/ratings/1", ""); body != `{"id":1,"ratings":{"Reviewer1":5,"Reviewer2":4}}` {
		t.Errorf("product 1: %s", body)
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		version        string
		random         float64
		after          time.Duration
		status, health int
		slept          time.Duration
	}{
		{"v1", 0, time.Minute, 200, 200, 0},
		{"v-faulty", 0.5, 0, 503, 200, 0},
		{"v-faulty", 0.51, 0, 200, 200, 0},
		{"v-delayed", 0.5, 0, 200, 200, 7 * time.Second},
		{"v-delayed", 0.51, 0, 200, 200, 0},
		{"v-unavailable", 0, 59 * time.Second, 200, 200, 0},
		{"v-unavailable", 0, 60 * time.Second, 503, 200, 0},
		{"v-unavailable", 0, 120 * time.Second, 200, 200, 0},
		{"v-unhealthy", 0, 14 * time.Minute, 200, 200, 0},
		{"v-unhealthy", 0, 15 * time.Minute, 503, 500, 0},
	} {
		s := newService(test.version)
		var slept time.Duration
		s.random = func() float64 { return test.random }
		s.now = func() time.Time { return s.started.Add(test.after) }
		s.sleep = func(d time.Duration) { slept += d }
		status, body := ask(s, "GET", "/ratings/0", "")
		health, _ := ask(s, "GET", "/health", "")
		if status != test.status || health != test.health || slept != test.slept {
			t.Errorf("%+v: %d, health %d, slept %s", test, status, health, slept)
		}
		want := map[int]string{200: stars, 503: `{"error":"Service unavailable"}`}[status]
		if body != want {
			t.Errorf("%+v: %s", test, body)
		}
	}
}

func TestOtherPathsAreUnknown(t *testing.T) {
	if status, _ := ask(newService("v1"), "GET", "/", ""); status != http.StatusNotFound {
		t.Errorf("/: %d", status)
	}
}
