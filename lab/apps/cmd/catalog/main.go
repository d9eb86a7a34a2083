// Catalog stands in for the book's image istioinaction/catalog: the same items, answered with the same headers.
package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strconv"

	"meshgate/lab/apps/internal/serve"
)

type item struct {
	ID         int    `json:"id"`
	Color      string `json:"color"`
	Department string `json:"department"`
	Name       string `json:"name"`
	Price      string `json:"price"`
}

var items = []item{
	{1, "amber", "Eyewear", "Elinor Glasses", "282.00"},
	{2, "cyan", "Clothing", "Atlas Shirt", "127.00"},
	{3, "teal", "Clothing", "Small Metal Shoes", "232.00"},
	{4, "red", "Watches", "Red Dragon Watch", "232.00"},
}

func main() {
	if err := serve.Run(":3000", handler()); err != nil {
		log.Fatal(err)
	}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, items) })
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err == nil && id >= 1 && id <= len(items) {
			answer(w, http.StatusOK, items[id-1])
			return
		}
		answer(w, http.StatusNotFound, struct{}{})
	})
	return mux
}

// answer writes JSON and headers as the original (Express with json-server) does; its ETag is the body's length and SHA-1.
func answer(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text := bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	sum := sha1.Sum(text)
	header := w.Header()
	header.Set("X-Powered-By", "Express")
	header.Set("Vary", "Origin, Accept-Encoding")
	header.Set("Access-Control-Allow-Credentials", "true")
	header.Set("Cache-Control", "no-cache")
	header.Set("Pragma", "no-cache")
	header.Set("Expires", "-1")
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	header.Set("ETag", fmt.Sprintf(`W/"%x-%s"`, len(text), base64.StdEncoding.EncodeToString(sum[:])[:27]))
	w.WriteHeader(status)
	_, _ = w.Write(text) // the caller has gone: nothing is left to tell it
}
