// Webapp stands in for the book's image istioinaction/webapp: a front end that asks the catalog service.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"meshgate/lab/apps/internal/serve"
)

const page = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>webapp</title></head>
<body><h1>webapp</h1><p>The items of the catalog: <a href="/api/catalog">/api/catalog</a></p></body></html>
`

type item struct {
	ID         int    `json:"id"`
	Color      string `json:"color"`
	Department string `json:"department"`
	Name       string `json:"name"`
	Price      string `json:"price"`
	ImageURL   string `json:"imageUrl,omitempty"`
}

func main() {
	if err := serve.Run(":8080", handler(catalogURL(os.Getenv))); err != nil {
		log.Fatal(err)
	}
}

// catalogURL follows the original, which reads CATALOG_SERVICE_HOST and _PORT (set by its manifest, or by Kubernetes for
// a Service in the same namespace); without them it is the Service `catalog` of the namespace KUBERNETES_NAMESPACE.
func catalogURL(getenv func(string) string) string {
	host, port := getenv("CATALOG_SERVICE_HOST"), getenv("CATALOG_SERVICE_PORT")
	if host == "" {
		host = "catalog"
		if namespace := getenv("KUBERNETES_NAMESPACE"); namespace != "" {
			host += "." + namespace
		}
	}
	if port == "" || port == "80" {
		return "http://" + host
	}
	return "http://" + net.JoinHostPort(host, port)
}

func handler(catalog string) http.Handler {
	client := &http.Client{Timeout: 15 * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, page)
	})
	mux.HandleFunc("GET /api/catalog", func(w http.ResponseWriter, r *http.Request) {
		items, err := fetch(client, catalog+"/items", r)
		if err != nil {
			log.Print(err)
			http.Error(w, "error calling Catalog service", http.StatusInternalServerError)
			return
		}
		body, err := json.Marshal(items)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(body)
	})
	return mux
}

func fetch(client *http.Client, url string, incoming *http.Request) ([]item, error) {
	request, err := http.NewRequestWithContext(incoming.Context(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range incoming.Header {
		if passedOn(name) {
			request.Header[name] = values
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, response.Status)
	}
	var items []item
	return items, json.NewDecoder(response.Body).Decode(&items)
}

// passedOn tells which headers a call inside the mesh takes along: identity, request id and trace context.
func passedOn(name string) bool {
	switch name {
	case "Authorization", "Traceparent", "Tracestate", "B3":
		return true
	}
	return strings.HasPrefix(name, "X-")
}
