package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const reviewsV3 = `{"id":"0","podname":"reviews-v3-abc","clustername":"null","reviews":[` +
	`{"reviewer":"Reviewer1","text":"good","rating":{"stars":5,"color":"red"}},` +
	`{"reviewer":"Reviewer2","text":"<b>","rating":{"error":"Ratings service is currently unavailable"}}]}`

// upstream is details, reviews and ratings in one: it answers by path and keeps what it was asked with.
type upstream struct {
	status map[string]int
	body   map[string]string
	asked  []string
	header http.Header
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.asked, u.header = append(u.asked, r.URL.Path), r.Header
	service := strings.Split(r.URL.Path, "/")[1]
	if status := u.status[service]; status != 0 {
		w.WriteHeader(status)
	}
	body, ok := u.body[service]
	if !ok {
		body = map[string]string{
			"details": `{"id":0,"pages":200,"type":"paperback","ISBN-10":"1234567890"}`,
			"reviews": reviewsV3,
			"ratings": `{"id":0,"ratings":{"Reviewer1":5}}`,
		}[service]
	}
	_, _ = io.WriteString(w, body)
}

func start(t *testing.T, u *upstream, flood int) *site {
	t.Helper()
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	host, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	return newSite(func(name string) string {
		switch {
		case strings.HasSuffix(name, "_HOSTNAME"):
			return host
		case strings.HasSuffix(name, "_SERVICE_PORT"):
			return port
		}
		return ""
	}, flood)
}

func send(s *site, request *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	s.handler().ServeHTTP(recorder, request)
	return recorder
}

func get(s *site, path string) *httptest.ResponseRecorder {
	return send(s, httptest.NewRequest(http.MethodGet, path, nil))
}

func login(s *site, user string) *http.Response {
	request := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(url.Values{"username": {user}, "passwd": {""}}.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Referer", "http://shop.test/productpage")
	return send(s, request).Result()
}

func TestPage(t *testing.T) {
	const noReviews = "Sorry, product reviews are currently unavailable for this book."
	for name, test := range map[string]struct {
		upstream upstream
		holds    []string
		lacks    []string
		asked    int
	}{
		"all well": {upstream{}, []string{
			"<title>Simple Bookstore App</title>", "The Comedy of Errors", "<td>200</td>", "<td>1234567890</td>",
			`text-red-500">`, "Reviews served by:\nreviews-v3-abc\n", `<p>"&lt;b&gt;"</p>`,
			`<p class="text-red-500">Ratings service is currently unavailable</p>`,
		}, []string{"Error fetching", "on cluster", "text-black-500"}, 2},
		"no stars, a cluster": {
			upstream{body: map[string]string{"reviews": `{"podname":"p","clustername":"east","reviews":[{"text":"good"}]}`}},
			[]string{"Book Reviews", "on cluster <div>east</div>"}, []string{"glyphicon", "text-red-500"}, 2,
		},
		"reviews fails": {upstream{status: map[string]int{"reviews": 503}},
			[]string{"Book Details", "Error fetching product reviews", noReviews}, []string{"Book Reviews"}, 3},
		"reviews is no JSON": {upstream{body: map[string]string{"reviews": "fault"}}, []string{noReviews}, []string{"Book Reviews"}, 3},
		"details fails": {upstream{status: map[string]int{"details": 403}}, []string{
			"Error fetching product details", "Sorry, product details are currently unavailable for this book.", "Book Reviews",
		}, []string{"Book Details"}, 2},
	} {
		u := test.upstream
		recorder := get(start(t, &u, 0), "/productpage?u=normal")
		body := recorder.Body.String()
		if recorder.Code != http.StatusOK || len(u.asked) != test.asked {
			t.Errorf("%s: %d after asking %v", name, recorder.Code, u.asked)
		}
		for _, text := range test.holds {
			if !strings.Contains(body, text) {
				t.Errorf("%s: lacks %q in\n%s", name, text, body)
			}
		}
		for _, text := range test.lacks {
			if strings.Contains(body, text) {
				t.Errorf("%s: has %q in\n%s", name, text, body)
			}
		}
	}
}

func TestAStarIsShownForEachPoint(t *testing.T) {
	body := get(start(t, &upstream{}, 0), "/productpage").Body.String()
	if got := strings.Count(body, "glyphicon-star"); got != 5 {
		t.Errorf("%d stars for one reviewer with 5", got)
	}
}

func TestAPI(t *testing.T) {
	for _, test := range []struct {
		path   string
		status map[string]int
		code   int
		body   string
		asked  []string
	}{
		{"/api/v1/products/0", nil, 200, `{"id":0,"pages":200,"type":"paperback","ISBN-10":"1234567890"}`, []string{"/details/0"}},
		{"/api/v1/products/x", map[string]int{"details": 400}, 400,
			`{"error": "Sorry, product details are currently unavailable for this book."}`, []string{"/details/x"}},
		{"/api/v1/products/0/reviews", nil, 200, reviewsV3, []string{"/reviews/0"}},
		{"/api/v1/products/0/reviews", map[string]int{"reviews": 503}, 503,
			`{"error": "Sorry, product reviews are currently unavailable for this book."}`, []string{"/reviews/0", "/reviews/0"}},
		{"/api/v1/products/3/ratings", nil, 200, `{"id":0,"ratings":{"Reviewer1":5}}`, []string{"/ratings/3"}},
		{"/api/v1/products/0/ratings", map[string]int{"ratings": 500}, 500,
			`{"error": "Sorry, product ratings are currently unavailable for this book."}`, []string{"/ratings/0"}},
	} {
		u := upstream{status: test.status}
		recorder := get(start(t, &u, 0), test.path)
		if recorder.Code != test.code || recorder.Body.String() != test.body || !slices.Equal(u.asked, test.asked) {
			t.Errorf("%s: %d %s after asking %v", test.path, recorder.Code, recorder.Body, u.asked)
		}
		if got := recorder.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: %s", test.path, got)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := newSite(func(name string) string {
		return map[string]string{"REVIEWS_HOSTNAME": "127.0.0.1", "REVIEWS_SERVICE_PORT": "1"}[name]
	}, 0)
	if code := get(s, "/api/v1/products/0/reviews").Code; code != http.StatusInternalServerError {
		t.Errorf("status %d", code)
	}
	if s.services.client.Timeout != 3*time.Second {
		t.Errorf("timeout %s", s.services.client.Timeout)
	}
}

func TestLoginMakesEndUser(t *testing.T) {
	u := upstream{}
	s := start(t, &u, 0)
	response := login(s, "jason")
	cookies := response.Cookies()
	if response.StatusCode != http.StatusFound || response.Header.Get("Location") != "http://shop.test/productpage" || len(cookies) != 1 {
		t.Fatalf("login: %d to %s with %v", response.StatusCode, response.Header.Get("Location"), cookies)
	}
	request := httptest.NewRequest(http.MethodGet, "/productpage", nil)
	request.AddCookie(cookies[0])
	request.Header.Set("end-user", "mallory")
	body := send(s, request).Body.String()
	if got := u.header.Get("end-user"); got != "jason" {
		t.Errorf("end-user %q", got)
	}
	if u.header.Get("Cookie") == "" || !strings.Contains(body, "Sign out") {
		t.Errorf("the session is not passed on or not shown: %v\n%s", u.header, body)
	}
	logout := get(s, "/logout").Result()
	if ended := logout.Cookies(); logout.StatusCode != http.StatusFound || len(ended) != 1 || ended[0].MaxAge >= 0 {
		t.Errorf("logout: %d with %v", logout.StatusCode, ended)
	}
}

func TestWithoutASessionOfItsOwnThereIsNoEndUser(t *testing.T) {
	own := login(start(t, &upstream{}, 0), "jason").Cookies()[0].Value
	payload, signed, _ := strings.Cut(own, ".")
	for _, cookie := range []string{"", "x", payload, payload + ".", "bWFsbG9yeQ." + signed, "%%." + signed} {
		u := upstream{}
		request := httptest.NewRequest(http.MethodGet, "/productpage", nil)
		request.Header.Set("Cookie", "session="+cookie)
		request.Header.Set("end-user", "mallory")
		body := send(start(t, &u, 0), request).Body.String()
		if got := u.header.Values("end-user"); len(got) != 0 || !strings.Contains(body, "Sign in") {
			t.Errorf("%q: end-user %v", cookie, got)
		}
	}
}

func TestB3(t *testing.T) {
	for name, test := range map[string]struct{ in, want map[string]string }{
		"none":      {nil, nil},
		"no span":   {map[string]string{"X-B3-Traceid": "a"}, nil},
		"several":   {map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b", "X-B3-Sampled": "1", "X-B3-Parentspanid": "p"}, map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b", "X-B3-Sampled": "1"}},
		"unsampled": {map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b"}, map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b", "X-B3-Sampled": "0"}},
		"debug":     {map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b", "X-B3-Flags": "1"}, map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b", "X-B3-Sampled": "1"}},
		"single":    {map[string]string{"B3": "a-b-d-p"}, map[string]string{"X-B3-Traceid": "a", "X-B3-Spanid": "b", "X-B3-Sampled": "1"}},
	} {
		from, to := http.Header{}, http.Header{}
		for header, value := range test.in {
			from.Set(header, value)
		}
		passOnB3(from, to)
		if len(to) != len(test.want) {
			t.Errorf("%s: %v", name, to)
		}
		for header, value := range test.want {
			if to.Get(header) != value {
				t.Errorf("%s: %v, want %s: %s", name, to, header, value)
			}
		}
	}
}

func TestOtherPages(t *testing.T) {
	s := start(t, &upstream{}, 0)
	for _, test := range []struct {
		method, path string
		code         int
		holds        string
	}{
		{"GET", "/", 200, "/productpage?u=test"},
		{"GET", "/health", 200, "Product page is healthy"},
		{"GET", "/static/tailwind/tailwind.css", 200, ".text-red-500"},
		{"GET", "/static/", 404, ""},
		{"GET", "/static/x", 404, ""},
		{"GET", "/api/v1/products", 200, `"title":"The Comedy of Errors"`},
		{"POST", "/productpage", 405, ""},
		{"GET", "/login", 405, ""},
		{"GET", "/x", 404, ""},
	} {
		recorder := send(s, httptest.NewRequest(test.method, test.path, nil))
		if recorder.Code != test.code || !strings.Contains(recorder.Body.String(), test.holds) {
			t.Errorf("%s %s: %d %s", test.method, test.path, recorder.Code, recorder.Body)
		}
	}
}

func TestFloodAndMetrics(t *testing.T) {
	u := upstream{}
	s := start(t, &u, 3)
	get(s, "/productpage")
	if len(u.asked) != 5 {
		t.Errorf("asked %v, want details once and reviews 3 times and once", u.asked)
	}
	u.status = map[string]int{"details": 503}
	get(s, "/api/v1/products/0")
	want := `# HELP request_result_total Results of requests
# TYPE request_result_total counter
request_result_total{destination_app="details",response_code="200"} 1
request_result_total{destination_app="details",response_code="503"} 1
request_result_total{destination_app="reviews",response_code="200"} 4
`
	if got := get(s, "/metrics").Body.String(); got != want {
		t.Error(got)
	}
}
