package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	queueDepth = prometheus.NewDesc("sealpost_outbox_messages", "Messages that wait in the outbox.", nil, nil)
	queueAge   = prometheus.NewDesc("sealpost_outbox_oldest_seconds", "How long the oldest message in the outbox has been waiting.", nil, nil)
)

// queueTime bounds the question a scrape asks the database.
const queueTime = 5 * time.Second

// queueCollector asks when it is scraped: counting beside the queue would drift from it.
type queueCollector struct {
	queue Queue
	now   func() time.Time
}

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- queueDepth
	ch <- queueAge
}

// Collect implements prometheus.Collector.
func (c queueCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), queueTime)
	defer cancel()
	depth, oldest, err := c.queue(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(queueDepth, err)
		return
	}
	age := 0.0
	if !oldest.IsZero() {
		age = max(0, c.now().Sub(oldest).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(queueDepth, prometheus.GaugeValue, float64(depth))
	ch <- prometheus.MustNewConstMetric(queueAge, prometheus.GaugeValue, age)
}
