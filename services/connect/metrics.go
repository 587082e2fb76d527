package connect

import "github.com/prometheus/client_golang/prometheus"

// metrics are the states of all connectors, read when they are asked for.
type metrics struct {
	s    *Service
	up   *prometheus.Desc
	vals []metric
}

type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(State) int64
}

func (s *Service) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	labels := []string{"connector", "protocol"}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("wayside_connect_"+name, help, labels, nil)
	}
	m := &metrics{s: s, up: desc("up", "1 while the device answers.")}
	add := func(name, help string, kind prometheus.ValueType, of func(State) int64) {
		m.vals = append(m.vals, metric{desc(name, help), kind, of})
	}
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	add("records_total", "Records that the broker has.", counter, func(d State) int64 { return d.Records })
	add("bytes_total", "Bytes of their values.", counter, func(d State) int64 { return d.Bytes })
	add("dead_letters_total", "Dead letters.", counter, func(d State) int64 { return d.Dead })
	add("dropped_records_total", "Records lost since the spool was full.", counter, func(d State) int64 { return d.Dropped })
	add("commands_total", "Commands answered.", counter, func(d State) int64 { return d.Commands })
	add("restarts_total", "Times that the device was lost.", counter, func(d State) int64 { return d.Restarts })
	add("waiting_records", "Records that the broker does not have yet.", gauge, func(d State) int64 { return d.Waiting })
	add("spooled_records", "Of these on disk.", gauge, func(d State) int64 { return d.OnDisk })
	add("refused_dead_letters", "Dead letters that the broker refuses, kept on disk.", gauge, func(d State) int64 { return d.Aside })
	return reg.Register(m)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.up
	for _, v := range m.vals {
		ch <- v.desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, d := range m.s.States() {
		up := 0.0
		if d.State == Running {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, up, d.Name, d.Protocol)
		for _, v := range m.vals {
			ch <- prometheus.MustNewConstMetric(v.desc, v.kind, float64(v.of(d)), d.Name, d.Protocol)
		}
	}
}
