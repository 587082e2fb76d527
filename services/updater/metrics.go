package updater

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/manifest"
)

// phases in the order of the gauge's labels.
var phases = []string{manifest.UpdateIdle, manifest.UpdateAvailable, manifest.UpdatePreparing,
	manifest.UpdatePrepared, manifest.UpdatePending, manifest.UpdateTrial}

type metrics struct {
	verbs   *prometheus.CounterVec // verb, result
	phase   *prometheus.GaugeVec   // phase
	failed  prometheus.Gauge
	sources *prometheus.GaugeVec // source
	bytes   prometheus.CounterFunc
	fetched atomic.Int64
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	name := func(n string) string { return prometheus.BuildFQName("wayside", "update", n) }
	m := &metrics{
		verbs:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("verbs_total"), Help: "Steps of an update, by what and how it went."}, []string{"verb", "result"}),
		phase:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("phase"), Help: "1 for the phase that the update is in."}, []string{"phase"}),
		failed:  prometheus.NewGauge(prometheus.GaugeOpts{Name: name("last_trial_failed"), Help: "1 when the latest trial failed."}),
		sources: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("source_up"), Help: "1 when the source was believed at the last refresh."}, []string{"source"}),
	}
	m.bytes = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name("fetched_bytes_total"), Help: "Bytes that came from sources."},
		func() float64 { return float64(m.fetched.Load()) })
	for _, c := range []prometheus.Collector{m.verbs, m.phase, m.failed, m.sources, m.bytes} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) got(n int)           { m.fetched.Add(int64(n)) }
func (m *metrics) fetchedBytes() int64 { return m.fetched.Load() }

func (m *metrics) verb(what string, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.verbs.WithLabelValues(what, result).Inc()
}

// show sets the gauges to what is told.
func (m *metrics) show(v *manifest.Update) {
	for _, p := range phases {
		m.phase.WithLabelValues(p).Set(truth(p == v.Phase))
	}
	m.failed.Set(truth(v.Last != nil && !v.Last.Committed))
	for _, s := range v.Sources {
		m.sources.WithLabelValues(s.Name).Set(truth(s.OK))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
