package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func get(path string) *http.Response {
	recorder := httptest.NewRecorder()
	handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Result()
}

// The document shows these headers; the ETag holds the SHA-1 of the body, so it proves the body byte for byte.
func TestItemsAreThoseOfTheDocument(t *testing.T) {
	response := get("/items")
	for name, want := range map[string]string{
		"ETag":           `W/"1f6-ih2h+hDQ0yLLcKIlBvwkWbyQGK4"`,
		"Content-Length": "502",
		"Content-Type":   "application/json; charset=utf-8",
		"X-Powered-By":   "Express",
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestOneItem(t *testing.T) {
	for path, want := range map[string]int{"/items/4": 200, "/items/5": 404, "/items/0": 404, "/items/x": 404, "/": 404} {
		if got := get(path).StatusCode; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}
