package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"io/fs"
	"log"
	"net/http"
)

//go:embed static
var static embed.FS

//go:embed page.html index.html
var templates embed.FS

var pages = template.Must(template.ParseFS(templates, "*.html"))

type product struct {
	ID              int           `json:"id"`
	Title           string        `json:"title"`
	DescriptionHTML template.HTML `json:"descriptionHtml"`
}

var products = []product{{0, "The Comedy of Errors", `<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia ` +
	`Summary</a>: one of <b>William Shakespeare's</b> early plays, and his shortest.`}}

// page is what page.html shows. Of details and reviews it takes what it knows; all may be missing.
type page struct {
	Product                      product
	User                         string
	DetailsStatus, ReviewsStatus int
	Details                      struct {
		Error, Publisher, Type, Language string
		Pages                            json.Number
		ISBN10                           string `json:"ISBN-10"`
	}
	Reviews struct {
		Error, Podname, Clustername string
		Reviews                     []struct {
			Reviewer, Text string
			Rating         struct {
				Stars        int
				Color, Error string
			}
		}
	}
}

type site struct {
	services *services
	flood    int
}

func newSite(getenv func(string) string, flood int) *site {
	return &site{newServices(getenv), flood}
}

func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	index := func(w http.ResponseWriter, _ *http.Request) { show(w, "index.html", s.services.urls) }
	mux.HandleFunc("GET /{$}", index)
	mux.HandleFunc("GET /index.html", index)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "Product page is healthy")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s.services.metrics()) })
	mux.HandleFunc("GET /productpage", s.productpage)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		startSession(w, r.FormValue("username"))
		back(w, r)
	})
	mux.HandleFunc("GET /logout", func(w http.ResponseWriter, r *http.Request) {
		startSession(w, "")
		back(w, r)
	})
	mux.Handle("GET /static/", http.FileServerFS(filesOnly{static}))
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.Marshal(products)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		asJSON(w, http.StatusOK, body)
	})
	mux.HandleFunc("GET /api/v1/products/{id}", s.api("details"))
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", s.api("reviews"))
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", s.api("ratings"))
	return mux
}

// back sends the client where it came from. Who does not say it goes to what Flask makes of that, as in the original.
func back(w http.ResponseWriter, r *http.Request) {
	from := r.Referer()
	if from == "" {
		from = "None"
	}
	w.Header().Set("Location", from)
	w.WriteHeader(http.StatusFound)
}

func (s *site) api(service string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body := s.services.ask(r.Context(), service, r.PathValue("id"), forwarded(r))
		asJSON(w, status, body)
	}
}

// productpage answers 200 whatever the others say: what is missing the page says itself.
func (s *site) productpage(w http.ResponseWriter, r *http.Request) {
	header := forwarded(r)
	content := page{Product: products[0], User: sessionUser(r)}
	var details, reviews json.RawMessage
	content.DetailsStatus, details = s.services.ask(r.Context(), "details", "0", header)
	for range s.flood {
		s.services.ask(r.Context(), "reviews", "0", header)
	}
	content.ReviewsStatus, reviews = s.services.ask(r.Context(), "reviews", "0", header)
	if err := json.Unmarshal(details, &content.Details); err != nil {
		log.Printf("details: %v", err)
	}
	if err := json.Unmarshal(reviews, &content.Reviews); err != nil {
		log.Printf("reviews: %v", err)
	}
	show(w, "page.html", content)
}

func show(w http.ResponseWriter, name string, content any) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, content); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(body.Bytes()) // the caller has gone: nothing is left to tell it
}

func asJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// filesOnly hides directories, which the original does not list.
type filesOnly struct{ fs.FS }

func (f filesOnly) Open(name string) (fs.File, error) {
	if info, err := fs.Stat(f.FS, name); err != nil || info.IsDir() {
		return nil, fs.ErrNotExist
	}
	return f.FS.Open(name)
}
