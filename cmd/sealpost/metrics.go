package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// watchers serves what a monitoring system asks (the listener "metrics"): /metrics for Prometheus; /healthz, 200 as
// long as the process answers; /readyz, 200 while mail is taken, else 503 with the reason.
func (d *services) watchers() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.service.bridge.Metrics().Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, d.ready(r.Context())) })
	return mux
}

// readyTime bounds the look at the database, so that a load balancer gets an answer.
const readyTime = 3 * time.Second

// ready is nil while new mail is taken.
func (d *services) ready(ctx context.Context) error {
	if d.draining.Load() {
		return fmt.Errorf("ending: what is under way is finished, nothing new is taken")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if _, err := d.service.bridge.Outbox().Len(ctx); err != nil {
		d.log.Error("the database does not answer", "cause", err)
		return fmt.Errorf("the database does not answer; the log says why")
	}
	return nil
}

func answer(w http.ResponseWriter, problem error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if problem != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, problem)
		return
	}
	fmt.Fprintln(w, "ok")
}

// watchServer makes the server for the listener "metrics".
func (d *services) watchServer(net.Listener) func(net.Listener) error {
	s := &http.Server{
		Handler: d.watchers(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10,
	}
	d.late = append(d.late, s.Shutdown)
	return s.Serve
}
