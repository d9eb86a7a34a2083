package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestCatalogIsPassedOnCompact(t *testing.T) {
	var seen http.Header
	catalog := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		_, _ = io.WriteString(w, "[\n  {\"id\": 1, \"color\": \"amber\", \"department\": \"Eyewear\", \"name\": \"G\", \"price\": \"2\"}\n]")
	}))
	defer catalog.Close()
	request := httptest.NewRequest(http.MethodGet, "/api/catalog", nil)
	request.Header.Set("X-Request-Id", "abc")
	request.Header.Set("Traceparent", "00-1-2-01")
	request.Header.Set("Cookie", "private")
	recorder := httptest.NewRecorder()
	handler(catalog.URL).ServeHTTP(recorder, request)
	want := `[{"id":1,"color":"amber","department":"Eyewear","name":"G","price":"2"}]`
	if got := recorder.Body.String(); got != want {
		t.Errorf("body %q, want %q", got, want)
	}
	if seen.Get("X-Request-Id") != "abc" || seen.Get("Traceparent") != "00-1-2-01" || seen.Get("Cookie") != "" {
		t.Errorf("headers passed on: %v", seen)
	}
}

func TestCatalogOutOfReach(t *testing.T) {
	recorder := httptest.NewRecorder()
	handler("http://127.0.0.1:1").ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/api/catalog", nil))
	if recorder.Code != http.StatusInternalServerError {
		t.Errorf("status %d", recorder.Code)
	}
}

func TestCatalogURL(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"http://catalog":               {},
		"http://catalog.istioinaction": {"KUBERNETES_NAMESPACE": "istioinaction"},
		"http://10.2.0.7":              {"CATALOG_SERVICE_HOST": "10.2.0.7", "CATALOG_SERVICE_PORT": "80", "KUBERNETES_NAMESPACE": "x"},
		"http://catalog.a:3000":        {"CATALOG_SERVICE_HOST": "catalog.a", "CATALOG_SERVICE_PORT": "3000"},
	} {
		if got := catalogURL(func(name string) string { return env[name] }); got != want {
			t.Errorf("%v: %s, want %s", env, got, want)
		}
	}
}
