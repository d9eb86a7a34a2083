// Ratings stands in for Bookinfo's ratings service without its databases: stars by reviewer, kept in memory.
//
// SERVICE_VERSION gives it the original's faults. v-faulty: half of the answers are 503; v-delayed: half take 7 s;
// v-unavailable: 503 every other minute; v-unhealthy: 503, and 500 to health checks, every other quarter of an hour.
package main

import (
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"

	"meshgate/lab/apps/internal/bookinfo"
	"meshgate/lab/apps/internal/serve"
)

const delay = 7 * time.Second

type rating struct {
	ID      int             `json:"id"`
	Ratings json.RawMessage `json:"ratings"`
}

type service struct {
	version string
	started time.Time
	now     func() time.Time
	random  func() float64
	sleep   func(time.Duration)
	mutex   sync.Mutex
	added   map[int]json.RawMessage
}

func main() {
	ratings := newService(os.Getenv("SERVICE_VERSION"))
	if err := serve.Run(bookinfo.Address, ratings.handler()); err != nil {
		log.Fatal(err)
	}
}

func newService(version string) *service {
	return &service{
		version: version,
		started: time.Now(),
		now:     time.Now,
		random:  rand.Float64,
		sleep:   time.Sleep,
		added:   map[int]json.RawMessage{},
	}
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if s.version == "v-unhealthy" && s.down() {
			answer(w, http.StatusInternalServerError, map[string]string{"status": "Ratings is not healthy"})
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "Ratings is healthy"})
	})
	mux.HandleFunc("GET /ratings/{id...}", func(w http.ResponseWriter, r *http.Request) {
		id, ok := productID(w, r)
		if !ok {
			return
		}
		if s.down() || s.version == "v-faulty" && s.random() <= 0.5 {
			refuse(w, http.StatusServiceUnavailable, "Service unavailable")
			return
		}
		if s.version == "v-delayed" && s.random() <= 0.5 {
			s.sleep(delay)
		}
		answer(w, http.StatusOK, s.rating(id))
	})
	mux.HandleFunc("POST /ratings/{id...}", func(w http.ResponseWriter, r *http.Request) {
		id, ok := productID(w, r)
		if !ok {
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil || !json.Valid(body) {
			refuse(w, http.StatusBadRequest, "please provide valid ratings JSON")
			return
		}
		s.mutex.Lock()
		s.added[id] = body
		s.mutex.Unlock()
		answer(w, http.StatusOK, s.rating(id))
	})
	return mux
}

// down tells whether this is one of the times at which the version serves nobody. It starts with one at which it does.
func (s *service) down() bool {
	period := map[string]time.Duration{"v-unavailable": time.Minute, "v-unhealthy": 15 * time.Minute}[s.version]
	return period != 0 && s.now().Sub(s.started)/period%2 == 1
}

func (s *service) rating(id int) rating {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if ratings, ok := s.added[id]; ok {
		return rating{id, ratings}
	}
	return rating{id, json.RawMessage(`{"Reviewer1":5,"Reviewer2":4}`)}
}

var number = regexp.MustCompile(`(?:^|/)\s*([0-9]+)[^/]*$`)

// productID reads the path's last part as the original does, up to its last digit, and answers when there is none.
func productID(w http.ResponseWriter, r *http.Request) (int, bool) {
	if found := number.FindStringSubmatch(r.PathValue("id")); found != nil {
		if id, err := strconv.Atoi(found[1]); err == nil {
			return id, true
		}
	}
	refuse(w, http.StatusBadRequest, "please provide numeric product ID")
	return 0, false
}

func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}

func answer(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller has gone: nothing is left to tell it
}
