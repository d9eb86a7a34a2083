// Reviews stands in for Bookinfo's reviews service. Its three versions are one program and differ by environment:
// v1 never asks ratings (ENABLE_RATINGS=false), v2 shows its stars in black, v3 in red (STAR_COLOR).
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"meshgate/lab/apps/internal/bookinfo"
	"meshgate/lab/apps/internal/serve"
)

const unavailable = "Ratings service is currently unavailable"

// What productpage has from the session, reviews has from productpage; B3's headers it passes on one by one.
var ownHeaders = []string{
	"end-user", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
}

var texts = map[string]string{
	"Reviewer1": "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
	"Reviewer2": "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
}

type stars struct {
	Stars int    `json:"stars"`
	Color string `json:"color"`
}

type failure struct {
	Error string `json:"error"`
}

type review struct {
	Reviewer string `json:"reviewer"`
	Text     string `json:"text"`
	Rating   any    `json:"rating,omitempty"` // stars, failure or nothing
}

// reviews has its id as a text, and the text "null" for an unknown cluster, as the original.
type reviews struct {
	ID          string   `json:"id"`
	Podname     string   `json:"podname"`
	Clustername string   `json:"clustername"`
	Reviews     []review `json:"reviews"`
}

type service struct {
	podname, clustername string
	ratings              string // where ratings are asked; empty: nowhere
	color                string
	client               *http.Client
}

func main() {
	if err := serve.Run(bookinfo.Address, newService(os.Getenv).handler()); err != nil {
		log.Fatal(err)
	}
}

func newService(getenv func(string) string) *service {
	s := &service{podname: getenv("HOSTNAME"), clustername: getenv("CLUSTER_NAME"), color: getenv("STAR_COLOR")}
	if s.clustername == "" {
		s.clustername = "null"
	}
	if s.color == "" {
		s.color = "black"
	}
	if strings.EqualFold(getenv("ENABLE_RATINGS"), "true") {
		s.ratings = bookinfo.ServiceURL(getenv, "ratings")
	}
	// The original's own timeouts: Istio's fault injection task finds with them that 10 s are more than productpage waits.
	timeout := 2500 * time.Millisecond
	if s.color == "black" {
		timeout = 10 * time.Second
	}
	s.client = &http.Client{Timeout: timeout}
	return s
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"status": "Reviews is healthy"})
	})
	mux.HandleFunc("GET /reviews/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 32)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		product := strconv.FormatInt(id, 10)
		var rated map[string]int
		if s.ratings != "" {
			rated, err = s.ask(product, r)
			if err != nil {
				log.Printf("Error: unable to contact %s: %v", s.ratings, err)
			}
		}
		answer(w, reviews{product, s.podname, s.clustername, []review{
			s.review("Reviewer1", rated), s.review("Reviewer2", rated),
		}})
	})
	return mux
}

func (s *service) review(reviewer string, rated map[string]int) review {
	it := review{Reviewer: reviewer, Text: texts[reviewer]}
	if s.ratings != "" {
		it.Rating = failure{unavailable}
		if number, ok := rated[reviewer]; ok {
			it.Rating = stars{number, s.color}
		}
	}
	return it
}

func (s *service) ask(product string, incoming *http.Request) (map[string]int, error) {
	request, err := http.NewRequestWithContext(incoming.Context(), http.MethodGet, s.ratings+"/"+product, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	bookinfo.PassOn(incoming.Header, request.Header, ownHeaders...)
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, response.Body) // read to its end, the connection serves the next request
		return nil, fmt.Errorf("got status of %d", response.StatusCode)
	}
	var body struct {
		Ratings map[string]int `json:"ratings"`
	}
	err = json.NewDecoder(response.Body).Decode(&body)
	return body.Ratings, err
}

func answer(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the caller has gone: nothing is left to tell it
}
