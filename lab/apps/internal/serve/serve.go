// Package serve runs an HTTP server as a container should: it logs each request and ends in order on SIGTERM.
package serve

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"
)

// Run serves on addr until SIGTERM or SIGINT, then lets running requests finish.
func Run(addr string, handler http.Handler) error {
	server := &http.Server{Addr: addr, Handler: logged(handler), ReadHeaderTimeout: 10 * time.Second}
	stopped, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("listening on %s", addr)
	select {
	case err := <-failed:
		return err
	case <-stopped.Done():
	}
	grace, cancelGrace := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancelGrace()
	if err := server.Shutdown(grace); err != nil {
		return err
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		recorded := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorded, r)
		log.Printf("%s %s %s %d %s", r.Method, r.Host, r.URL.Path, recorded.status, time.Since(start).Round(time.Microsecond))
	})
}
