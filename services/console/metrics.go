package console

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// serviceLabel tells the services apart in the merged metrics.
const serviceLabel = "service"

// metrics gathers the metrics of every service that answers, each with its
// service label, and the box's own. A service that does not answer is missing
// and shows as wayside_service_up 0.
func (c *collector) metrics() ([]*dto.MetricFamily, error) {
	snap := c.look()
	answers := make([]map[string]*dto.MetricFamily, len(snap.Services))
	var wg sync.WaitGroup
	for i, a := range snap.Services {
		if a.Report != nil {
			wg.Go(func() { answers[i] = c.serviceMetrics(a.Name) })
		}
	}
	wg.Wait()
	m := merged{}
	for i, a := range snap.Services {
		m.add(answers[i], a.Name)
	}
	box, err := boxMetrics(snap, answers)
	for _, f := range box {
		m.family(f)
	}
	return m.sorted(), err
}

// serviceMetrics is nil if the service does not answer, or not in the text
// format.
func (c *collector) serviceMetrics(name string) map[string]*dto.MetricFamily {
	body, err := ask(context.Background(), c.socket(name), "/metrics", maxMetrics)
	if err != nil {
		return nil
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	return families
}

// merged is metric families by name.
type merged map[string]*dto.MetricFamily

func (m merged) add(families map[string]*dto.MetricFamily, service string) {
	for _, f := range families {
		for _, metric := range f.Metric {
			metric.Label = labelled(metric.Label, service)
		}
		m.family(f)
	}
}

// family merges by name. Two services that use one name for different types
// are a bug of theirs; the first one counts, since a family has one type.
func (m merged) family(f *dto.MetricFamily) {
	have, ok := m[f.GetName()]
	switch {
	case !ok:
		m[f.GetName()] = f
	case have.GetType() == f.GetType():
		have.Metric = append(have.Metric, f.Metric...)
	}
}

func (m merged) sorted() []*dto.MetricFamily {
	families := make([]*dto.MetricFamily, 0, len(m))
	for _, f := range m {
		families = append(families, f)
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int {
		return strings.Compare(a.GetName(), b.GetName())
	})
	return families
}

// labelled adds the service label. A label of that name that the service set
// itself gets the prefix that Prometheus gives it too.
func labelled(labels []*dto.LabelPair, service string) []*dto.LabelPair {
	for _, l := range labels {
		if l.GetName() == serviceLabel {
			name := "exported_" + serviceLabel
			l.Name = &name
		}
	}
	name := serviceLabel
	labels = append(labels, &dto.LabelPair{Name: &name, Value: &service})
	slices.SortFunc(labels, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return labels
}

// boxMetrics are about the box as a whole.
func boxMetrics(s *Snapshot, answers []map[string]*dto.MetricFamily) ([]*dto.MetricFamily, error) {
	reg := prometheus.NewRegistry()
	set := func(name, help string, labels ...string) func(v float64, values ...string) {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		reg.MustRegister(g)
		return func(v float64, values ...string) { g.WithLabelValues(values...).Set(v) }
	}
	healthy := set("wayside_healthy", "1 while /healthz says ok.")
	healthy(truth(s.OK))
	up := set("wayside_service_up", "1 if the service answered with its metrics.", serviceLabel)
	for i, a := range s.Services {
		up(truth(answers[i] != nil), a.Name)
	}
	b := s.Box
	if b == nil {
		return reg.Gather()
	}
	set("wayside_box_info", "What runs; always 1.", "version", "board", "slot", "site", "kernel")(
		1, b.Version, b.Board, b.Slot, b.Profile.Site, b.Kernel)
	set("wayside_box_uptime_seconds", "Time since the kernel started.")(b.Uptime)
	set("wayside_box_root_verified", "1 while dm-verity finds the system partition intact.")(truth(b.Verity == "ok"))
	set("wayside_box_secure_boot", "1 when the firmware runs only what is signed.")(truth(b.SecureBoot == "on"))
	set("wayside_box_clock_synchronised", "1 when a time server has set the clock.")(truth(b.Clock.Synchronised))
	set("wayside_box_profile_errors", "Errors in a site profile that was rejected.")(float64(len(b.Profile.Errors)))
	free := set("wayside_box_disk_free_bytes", "Free space.", "mount")
	total := set("wayside_box_disk_total_bytes", "Size.", "mount")
	for _, d := range b.Disks {
		free(float64(d.Free), d.Mount)
		total(float64(d.Total), d.Mount)
	}
	set("wayside_box_memory_total_bytes", "Size of the memory.")(float64(b.Memory.Total))
	set("wayside_box_memory_available_bytes", "Memory that programs could still have.")(float64(b.Memory.Available))
	ready := set("wayside_service_ready", "1 while the service is ready.", serviceLabel)
	memory := set("wayside_service_memory_bytes", "Memory of the service's control group.", serviceLabel)
	restarts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wayside_service_restarts_total", Help: "Restarts since the box started.",
	}, []string{serviceLabel})
	reg.MustRegister(restarts)
	for _, svc := range b.Services {
		ready(truth(svc.Ready), svc.Name)
		memory(float64(svc.Memory), svc.Name)
		restarts.WithLabelValues(svc.Name).Add(float64(max(0, svc.Restarts)))
	}
	return reg.Gather()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
