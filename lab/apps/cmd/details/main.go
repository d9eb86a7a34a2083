// Details stands in for Bookinfo's details service: what is known of the one book.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"path"
	"strconv"

	"meshgate/lab/apps/internal/bookinfo"
	"meshgate/lab/apps/internal/serve"
)

type details struct {
	ID        int    `json:"id"`
	Author    string `json:"author"`
	Year      int    `json:"year"`
	Type      string `json:"type"`
	Pages     int    `json:"pages"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	ISBN10    string `json:"ISBN-10"`
	ISBN13    string `json:"ISBN-13"`
}

func main() {
	if err := serve.Run(bookinfo.Address, handler()); err != nil {
		log.Fatal(err)
	}
}

// handler answers any method, as the original does.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "Details is healthy"})
	})
	book := func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(path.Base(r.URL.Path))
		if err != nil {
			answer(w, http.StatusBadRequest, map[string]string{"error": "please provide numeric product id"})
			return
		}
		answer(w, http.StatusOK, details{
			id, "William Shakespeare", 1595, "paperback", 200, "PublisherA", "English", "1234567890", "123-1234567890",
		})
	}
	mux.HandleFunc("/details", book)
	mux.HandleFunc("/details/", book)
	return mux
}

func answer(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, string(body)) // the caller has gone: nothing is left to tell it
}
