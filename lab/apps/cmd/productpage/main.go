// Productpage stands in for Bookinfo's front end: a page and an API out of details, reviews and ratings.
//
// It has the original's HTTP contract, its bug among it that Istio's fault injection task is about: reviews is asked
// twice with 3 s each, so that a page waits up to 6 s, while reviews itself may wait 10 s for ratings.
package main

import (
	"log"
	"os"
	"strconv"

	"meshgate/lab/apps/internal/bookinfo"
	"meshgate/lab/apps/internal/serve"
)

func main() {
	flood, err := strconv.Atoi(os.Getenv("FLOOD_FACTOR"))
	if err != nil && os.Getenv("FLOOD_FACTOR") != "" {
		log.Fatalf("FLOOD_FACTOR: %v; it is a number: how often reviews is asked in vain for each page", err)
	}
	if err := serve.Run(bookinfo.Address, newSite(os.Getenv, flood).handler()); err != nil {
		log.Fatal(err)
	}
}
