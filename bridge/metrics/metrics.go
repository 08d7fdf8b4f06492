// Package metrics counts what an installation does, for Prometheus. No label holds an address, a host or anything
// of a message: whoever may read the figures learns nothing about who writes to whom.
package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the counters of one installation. Safe for concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	messages  *prometheus.HistogramVec
	delivered *prometheus.HistogramVec
	opened    *prometheus.CounterVec
	lookups   *prometheus.HistogramVec
}

// Buckets of latencies, in seconds: from a message handed over on the same machine to one that waits for a
// certificate's whole deadline.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// New makes them, all zero.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_decisions_total", Help: "Decisions about one recipient of an outgoing message.",
		}, []string{"decision", "reason"}),
		messages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sealpost_submission_seconds", Help: "Time from the beginning of an outgoing message to the answer.", Buckets: buckets,
		}, []string{"result"}),
		delivered: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sealpost_delivery_seconds", Help: "Time from the beginning of a message that enters through the gateway to the answer.", Buckets: buckets,
		}, []string{"result"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealpost_opened_total", Help: "Incoming messages by how they came and what their signature is worth.",
		}, []string{"encryption", "signature"}),
		lookups: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sealpost_lookup_seconds", Help: "Questions for certificates by method and answer.", Buckets: buckets,
		}, []string{"method", "result"}),
	}
	m.registry.MustRegister(m.decisions, m.messages, m.delivered, m.opened, m.lookups,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Decided counts the decision about one recipient; reason is "" unless it refuses.
func (m *Metrics) Decided(decision, reason string) {
	m.decisions.WithLabelValues(decision, reason).Inc()
}

// Submitted counts an outgoing message; result is "accepted" or the reason of the refusal.
func (m *Metrics) Submitted(result string, took time.Duration) {
	m.messages.WithLabelValues(result).Observe(took.Seconds())
}

// Delivered counts a message that the gateway took for its users; result as with Submitted.
func (m *Metrics) Delivered(result string, took time.Duration) {
	m.delivered.WithLabelValues(result).Observe(took.Seconds())
}

// Opened counts an incoming message.
func (m *Metrics) Opened(encryption, signature string) {
	m.opened.WithLabelValues(encryption, signature).Inc()
}

// LookedUp counts a question for certificates; result is "found", "none" or "error".
func (m *Metrics) LookedUp(method, result string, took time.Duration) {
	m.lookups.WithLabelValues(method, result).Observe(took.Seconds())
}

// Queue is what waits: how many messages, and since when the oldest one does (zero: none waits).
type Queue func(ctx context.Context) (depth int, oldest time.Time, err error)

// WatchQueue reads the queue at every scrape. It is called once.
func (m *Metrics) WatchQueue(q Queue, now func() time.Time) {
	m.registry.MustRegister(queueCollector{q, now})
}

// Handler serves the figures in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}
