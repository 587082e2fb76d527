package replicator

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the series of all links; linkMetrics those of one.
type metrics struct {
	records, bytes                                *prometheus.CounterVec // link, topic
	resent, lost, stops, dead, looped, late, wire *prometheus.CounterVec // link
	lag, up, lagBytes, lagSeconds, paused         *prometheus.GaugeVec   // link
}

type linkMetrics struct {
	records, bytes                                *prometheus.CounterVec // topic
	resent, lost, stops, dead, looped, late, wire prometheus.Counter
	lag, up, lagBytes, lagSeconds, paused         prometheus.Gauge
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
		records:    counter("records_total", "Records the destination acknowledged.", "link", "topic"),
		bytes:      counter("bytes_total", "Key and value bytes of these records.", "link", "topic"),
		resent:     counter("resent_records_total", "Records sent again that the destination already held.", "link"),
		lost:       counter("lost_records_total", "Offsets deleted on the box before they were carried.", "link"),
		stops:      counter("partition_stops_total", "Times a partition was stopped by an error.", "link"),
		dead:       counter("dead_letters_total", "Records put aside, since they cannot be carried.", "link"),
		looped:     counter("looped_records_total", "Records left out, since they have been at the destination.", "link"),
		late:       counter("late_records_total", "Records in no summary, since their window had closed. After a restart it errs upwards.", "link"),
		wire:       counter("wire_bytes_total", "Bytes to and from the centre, without those of TLS and TCP.", "link"),
		lagBytes:   gauge("lag_bytes", "Key and value bytes of these records, about."),
		lagSeconds: gauge("lag_seconds", "Age of the oldest of these records."),
		paused:     gauge("paused", "1 while the link is paused by hand."),
		lag:        gauge("lag_records", "Records on the box that the destination does not have."),
		up:         gauge("up", "1 while the destination answers."),
	}
	for _, c := range []prometheus.Collector{m.records, m.bytes, m.resent, m.lost, m.stops, m.dead, m.looped, m.late, m.wire, m.lagBytes, m.lagSeconds, m.paused, m.lag, m.up} {
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
		dead: m.dead.With(of), looped: m.looped.With(of), late: m.late.With(of), wire: m.wire.With(of),
		lagBytes: m.lagBytes.With(of), lagSeconds: m.lagSeconds.With(of), paused: m.paused.With(of),
		lag: m.lag.With(of), up: m.up.With(of),
	}
}

func (m *linkMetrics) acked(topic string, sent flow) {
	m.records.WithLabelValues(topic).Add(float64(sent.records))
	m.bytes.WithLabelValues(topic).Add(float64(sent.bytes))
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
