// Package elasticsearch stands in for Elasticsearch's client of 847 packages, which take longer to compile than all else
// of Jaeger: the lab's Jaeger keeps its traces in memory. It has what Jaeger calls, and each call says what it is.
package elasticsearch

import (
	"net/http"

	"github.com/elastic/go-elasticsearch/v9/esapi"
)

type Config struct {
	Addresses            []string
	Username, Password   string
	DiscoverNodesOnStart bool
	CompressRequestBody  bool
	Header               http.Header
	Transport            http.RoundTripper
}

type Client struct {
	Indices *esapi.Indices
}

func NewClient(Config) (*Client, error) {
	return nil, esapi.ErrLeftOut
}
