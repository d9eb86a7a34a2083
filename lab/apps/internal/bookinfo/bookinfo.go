// Package bookinfo is what the stand-ins for Istio's Bookinfo 1.20.3 (samples/bookinfo/src in istio.io/istio) share:
// where they serve, where the others are, and what a call inside the mesh takes along.
package bookinfo

import (
	"fmt"
	"net/http"
	"strings"
)

// Address is where each of them serves.
const Address = ":9080"

// The headers that productpage and reviews both copy from what they were asked with: ids and trace contexts of every
// kind that Istio knows, and what tells who asks. Each of the two adds its own to them.
var passedOn = []string{
	"x-request-id",
	"x-ot-span-context",
	"x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority",
	"traceparent", "tracestate",
	"x-cloud-trace-context",
	"grpc-trace-bin",
	"sw8",
	"user-agent", "cookie", "authorization", "jwt",
}

// PassOn copies the shared headers and those of `own` that are there.
func PassOn(from, to http.Header, own ...string) {
	for _, name := range append(own, passedOn...) {
		if values := from.Values(name); len(values) > 0 {
			to[http.CanonicalHeaderKey(name)] = values
		}
	}
}

// ServiceURL is where a service is asked: http://<SERVICE>_HOSTNAME[.SERVICES_DOMAIN]:<SERVICE>_SERVICE_PORT of the
// environment, by default the Service of that name in the own namespace, on 9080.
func ServiceURL(getenv func(string) string, service string) string {
	or := func(name, standard string) string {
		if value := getenv(name); value != "" {
			return value
		}
		return standard
	}
	host := or(strings.ToUpper(service)+"_HOSTNAME", service)
	if domain := getenv("SERVICES_DOMAIN"); domain != "" {
		host += "." + domain
	}
	return fmt.Sprintf("http://%s:%s/%s", host, or(strings.ToUpper(service)+"_SERVICE_PORT", "9080"), service)
}
