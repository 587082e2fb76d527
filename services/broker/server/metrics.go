package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the protocol.
type Metrics struct {
	Connections       prometheus.Gauge
	Requests          *prometheus.CounterVec // by API
	RequestSeconds    *prometheus.CounterVec // by API; without waiting for the disk
	BytesIn, BytesOut prometheus.Counter     // on the sockets
	RecordsIn         Counted
	RecordBytesIn     Counted
	RecordBytesOut    Counted
	byKey             map[int16]*perKey
}

type perKey struct{ requests, seconds prometheus.Counter }

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "wayside", Subsystem: "broker", Name: name, Help: help})
	}
	vec := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "wayside", Subsystem: "broker", Name: name, Help: help}, []string{"api"})
	}
	m := &Metrics{
		Connections: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "wayside", Subsystem: "broker",
			Name: "connections", Help: "Open client connections."}),
		Requests:       vec("requests_total", "Requests handled."),
		RequestSeconds: vec("request_seconds_total", "Time spent handling requests, without waiting for the disk after an append."),
		BytesIn:        counter("received_bytes_total", "Bytes of requests."),
		BytesOut:       counter("sent_bytes_total", "Bytes of responses."),
		RecordsIn:      newCounted(counter("records_in_total", "Records appended.")),
		RecordBytesIn:  newCounted(counter("record_bytes_in_total", "Bytes of record batches appended.")),
		RecordBytesOut: newCounted(counter("record_bytes_out_total", "Bytes of record batches fetched.")),
		byKey:          map[int16]*perKey{},
	}
	for _, a := range apis() {
		m.byKey[a.key.Int16()] = &perKey{m.Requests.WithLabelValues(a.key.Name()), m.RequestSeconds.WithLabelValues(a.key.Name())}
	}
	for _, c := range []prometheus.Collector{m.Connections, m.Requests, m.RequestSeconds, m.BytesIn, m.BytesOut, m.RecordsIn, m.RecordBytesIn, m.RecordBytesOut} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) request(key int16, d time.Duration) {
	p := m.byKey[key]
	p.requests.Inc()
	p.seconds.Add(d.Seconds())
}
