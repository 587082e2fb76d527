package replicator

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the series of all links; linkMetrics those of one.
type metrics struct {
	records, bytes      *prometheus.CounterVec // link, topic
	resent, lost, stops *prometheus.CounterVec // link
	lag, up             *prometheus.GaugeVec   // link
}

type linkMetrics struct {
	records, bytes      *prometheus.CounterVec // topic
	resent, lost, stops prometheus.Counter
	lag, up             prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "wayside", Subsystem: "link", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "wayside", Subsystem: "link", Name: name, Help: help}, []string{"link"})
	}
	m := &metrics{
		records: counter("records_total", "Records the destination acknowledged.", "link", "topic"),
		bytes:   counter("bytes_total", "Key and value bytes of these records.", "link", "topic"),
		resent:  counter("resent_records_total", "Records sent again that the destination already held.", "link"),
		lost:    counter("lost_records_total", "Offsets deleted on the box before they were carried.", "link"),
		stops:   counter("partition_stops_total", "Times a partition was stopped by an error.", "link"),
		lag:     gauge("lag_records", "Records on the box that the destination does not have."),
		up:      gauge("up", "1 while the destination answers."),
	}
	for _, c := range []prometheus.Collector{m.records, m.bytes, m.resent, m.lost, m.stops, m.lag, m.up} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) link(name string) *linkMetrics {
	of := prometheus.Labels{"link": name}
	return &linkMetrics{
		records: m.records.MustCurryWith(of), bytes: m.bytes.MustCurryWith(of),
		resent: m.resent.With(of), lost: m.lost.With(of), stops: m.stops.With(of),
		lag: m.lag.With(of), up: m.up.With(of),
	}
}

func (m *linkMetrics) acked(topic string, sent flow) {
	m.records.WithLabelValues(topic).Add(float64(sent.records))
	m.bytes.WithLabelValues(topic).Add(float64(sent.bytes))
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
