package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	first  = `{"reviewer":"Reviewer1","text":"An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"`
	second = `{"reviewer":"Reviewer2","text":"Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."`
)

// version makes the service as an image and a pod's environment do, asking the given ratings.
func version(ratings string, env map[string]string) *service {
	host, port, _ := strings.Cut(strings.TrimPrefix(ratings, "http://"), ":")
	env["RATINGS_HOSTNAME"], env["RATINGS_SERVICE_PORT"], env["HOSTNAME"] = host, port, "reviews-abc"
	return newService(func(name string) string { return env[name] })
}

func get(s *service, path string, header http.Header) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header = header
	recorder := httptest.NewRecorder()
	s.handler().ServeHTTP(recorder, request)
	return recorder
}

func TestReviews(t *testing.T) {
	asked := 0
	status, body := http.StatusOK, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`
	ratings := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/ratings/0" {
			t.Errorf("asked ratings for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer ratings.Close()
	missing := `,"rating":{"error":"Ratings service is currently unavailable"}}`
	for _, test := range []struct {
		name          string
		env           map[string]string
		status        int
		body          string
		asked         int
		first, second string
	}{
		{"v1", map[string]string{"ENABLE_RATINGS": "false"}, 200, body, 0, "}", "}"},
		{"v2", map[string]string{"ENABLE_RATINGS": "true"}, 200, body, 1,
			`,"rating":{"stars":5,"color":"black"}}`, `,"rating":{"stars":4,"color":"black"}}`},
		{"v3", map[string]string{"ENABLE_RATINGS": "true", "STAR_COLOR": "red"}, 200, body, 1,
			`,"rating":{"stars":5,"color":"red"}}`, `,"rating":{"stars":4,"color":"red"}}`},
		{"faulty", map[string]string{"ENABLE_RATINGS": "true"}, 503, body, 1, missing, missing},
		{"no JSON", map[string]string{"ENABLE_RATINGS": "true"}, 200, "fault filter abort", 1, missing, missing},
		{"one reviewer", map[string]string{"ENABLE_RATINGS": "true"}, 200, `{"ratings":{"Reviewer2":0}}`, 1,
			missing, `,"rating":{"stars":0,"color":"black"}}`},
	} {
		asked, status, body = 0, test.status, test.body
		want := `{"id":"0","podname":"reviews-abc","clustername":"null","reviews":[` +
			first + test.first + "," + second + test.second + "]}"
		recorder := get(version(ratings.URL, test.env), "/reviews/0", nil)
		if recorder.Code != http.StatusOK || recorder.Body.String() != want || asked != test.asked {
			t.Errorf("%s: %d, ratings asked %d times: %s", test.name, recorder.Code, asked, recorder.Body)
		}
	}
}

func TestRatingsOutOfReach(t *testing.T) {
	body := get(version("http://127.0.0.1:1", map[string]string{"ENABLE_RATINGS": "true"}), "/reviews/0", nil).Body.String()
	if strings.Count(body, "Ratings service is currently unavailable") != 2 {
		t.Error(body)
	}
}

func TestTimeoutsAreThoseOfTheOriginal(t *testing.T) {
	for color, want := range map[string]time.Duration{"": 10 * time.Second, "black": 10 * time.Second, "red": 2500 * time.Millisecond} {
		if got := version("http://r:1", map[string]string{"STAR_COLOR": color}).client.Timeout; got != want {
			t.Errorf("%q: %s, want %s", color, got, want)
		}
	}
}

func TestHeadersPassedOn(t *testing.T) {
	var seen http.Header
	ratings := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
	defer ratings.Close()
	header := http.Header{}
	for _, name := range []string{"End-User", "X-Request-Id", "Traceparent", "X-B3-Traceid", "X-B3-Parentspanid", "User-Agent", "X-Other"} {
		header.Set(name, "of "+name)
	}
	get(version(ratings.URL, map[string]string{"ENABLE_RATINGS": "true"}), "/reviews/0", header)
	for name := range header {
		want := header.Get(name)
		if name == "X-Other" {
			want = ""
		}
		if got := seen.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestOtherRequests(t *testing.T) {
	s := version("http://r:1", map[string]string{"CLUSTER_NAME": "east"})
	if body := get(s, "/health", nil).Body.String(); body != `{"status":"Reviews is healthy"}` {
		t.Errorf("health: %s", body)
	}
	if body := get(s, "/reviews/0", nil).Body.String(); !strings.Contains(body, `"clustername":"east"`) {
		t.Errorf("cluster: %s", body)
	}
	if code := get(s, "/reviews/x", nil).Code; code != http.StatusNotFound {
		t.Errorf("/reviews/x: %d", code)
	}
}
