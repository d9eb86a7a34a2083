package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestDetails(t *testing.T) {
	book := `"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,` +
		`"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}`
	unnumbered := `{"error":"please provide numeric product id"}`
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/details/0", 200, `{"id":0,` + book},
		{"POST", "/details/7", 200, `{"id":7,` + book},
		{"GET", "/details/x", 400, unnumbered},
		{"GET", "/details", 400, unnumbered},
		{"GET", "/health", 200, `{"status":"Details is healthy"}`},
	} {
		recorder := httptest.NewRecorder()
		handler().ServeHTTP(recorder, httptest.NewRequest(test.method, test.path, nil))
		if recorder.Code != test.status || recorder.Body.String() != test.body {
			t.Errorf("%s %s: %d %s", test.method, test.path, recorder.Code, recorder.Body)
		}
		if got := recorder.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %s", test.path, got)
		}
	}
	recorder := httptest.NewRecorder()
	handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if recorder.Code != http.StatusNotFound {
		t.Errorf("/: %d", recorder.Code)
	}
}
