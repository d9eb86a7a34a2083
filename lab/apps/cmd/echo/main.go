// Echo stands in for the image of github.com/youngwjung/flask-echo: what is posted to /echo as JSON comes back. Every
// other request is answered with what has arrived of it, so that one sees what the load balancer and the gateway made
// of it.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"strings"

	"meshgate/lab/apps/internal/serve"
)

const mostPosted = 1 << 20

// seen is a request as it arrived here.
type seen struct {
	Method        string            `json:"method"`
	Path          string            `json:"path"`
	Query         string            `json:"query"`
	Host          string            `json:"host"`
	Scheme        string            `json:"scheme"`
	RemoteAddress string            `json:"remote_address"`
	Headers       map[string]string `json:"headers"`
}

func main() {
	if err := serve.Run(":80", handler()); err != nil {
		log.Fatal(err)
	}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("/", describe)
	return mux
}

func echo(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		http.Error(w, "Did not attempt to load JSON data because the request Content-Type was not 'application/json'.",
			http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostPosted))
	if err != nil || !json.Valid(body) {
		http.Error(w, "The browser (or proxy) sent a request that this server could not understand.",
			http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the caller has gone: nothing is left to tell it
}

func describe(w http.ResponseWriter, r *http.Request) {
	headers := make(map[string]string, len(r.Header))
	for name, values := range r.Header {
		headers[name] = strings.Join(values, ", ")
	}
	body, err := json.MarshalIndent(seen{
		Method:        r.Method,
		Path:          r.URL.Path,
		Query:         r.URL.RawQuery,
		Host:          r.Host,
		Scheme:        scheme(r),
		RemoteAddress: r.RemoteAddr,
		Headers:       headers,
	}, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// scheme is what those before us say that the client used: TLS never ends here.
func scheme(r *http.Request) string {
	if said := r.Header.Get("X-Forwarded-Proto"); said != "" {
		return said
	}
	return "http"
}
