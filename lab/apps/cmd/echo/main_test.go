package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func answer(request *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler().ServeHTTP(recorder, request)
	return recorder
}

func described(t *testing.T, request *http.Request) seen {
	t.Helper()
	var got seen
	if err := json.Unmarshal(answer(request).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRequestIsDescribed(t *testing.T) {
	request := httptest.NewRequest(http.MethodGet, "/a/b?c=d", nil)
	request.Host = "echo.example.com"
	request.RemoteAddr = "10.1.4.7:1234"
	request.Header.Set("X-Forwarded-Proto", "https")
	request.Header.Add("X-Forwarded-For", "203.0.113.10")
	request.Header.Add("X-Forwarded-For", "10.0.0.11")
	got := described(t, request)
	if got.Method != "GET" || got.Path != "/a/b" || got.Query != "c=d" || got.Host != "echo.example.com" {
		t.Errorf("%+v", got)
	}
	if got.Scheme != "https" || got.RemoteAddress != "10.1.4.7:1234" {
		t.Errorf("scheme %q, remote address %q", got.Scheme, got.RemoteAddress)
	}
	if got.Headers["X-Forwarded-For"] != "203.0.113.10, 10.0.0.11" {
		t.Errorf("headers %v", got.Headers)
	}
}

func TestSchemeIsHTTPWhenNobodySaysOtherwise(t *testing.T) {
	if got := described(t, httptest.NewRequest(http.MethodGet, "/echo", nil)).Scheme; got != "http" {
		t.Errorf("scheme %q", got)
	}
}

// As the original: https://github.com/youngwjung/flask-echo answers /echo alone, and POST alone.
func TestPostedJSONComesBack(t *testing.T) {
	for _, one := range []struct {
		kind, body string
		status     int
	}{
		{"application/json", `{"key":"value"}`, http.StatusOK},
		{"application/json; charset=utf-8", `[1, 2]`, http.StatusOK},
		{"application/json", `{"key"`, http.StatusBadRequest},
		{"text/plain", `{"key":"value"}`, http.StatusUnsupportedMediaType},
	} {
		request := httptest.NewRequest(http.MethodPost, "/echo", strings.NewReader(one.body))
		request.Header.Set("Content-Type", one.kind)
		got := answer(request)
		if got.Code != one.status {
			t.Errorf("%s %s: %d, want %d", one.kind, one.body, got.Code, one.status)
		}
		if one.status == http.StatusOK && got.Body.String() != one.body {
			t.Errorf("%s: %s came back", one.body, got.Body)
		}
	}
}
