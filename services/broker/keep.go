package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// registerKeep exports what housekeeping does.
func (b *Broker) registerKeep() error {
	stats := func() (s catalog.KeepStats) {
		if cat := b.catalog(); cat != nil {
			s = cat.KeepStats()
		}
		return s
	}
	for _, c := range []prometheus.Collector{
		counter("compactions_total", "Times that a partition was compacted.", func() int64 { return stats().Compactions }),
		counter("compaction_read_bytes_total", "Bytes read by compaction.", func() int64 { return stats().CompactRead }),
		counter("compaction_written_bytes_total", "Bytes written by compaction.", func() int64 { return stats().CompactWrit }),
		counter("compaction_freed_bytes_total", "Bytes by which compaction made logs shorter.", func() int64 { return stats().Freed }),
		counter("scrubbed_segments_total", "Segments whose checksums were verified in the background.", func() int64 { return stats().Scrubbed }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "wayside", Subsystem: "broker", Name: "damaged_ranges",
			Help: "Places in partition logs that cannot be read any more; the log says where.",
		}, func() float64 {
			cat := b.catalog()
			if cat == nil {
				return 0
			}
			return float64(cat.Damaged())
		}),
	} {
		if err := b.cfg.Registerer.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func counter(name, help string, value func() int64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "wayside", Subsystem: "broker", Name: name, Help: help,
	}, func() float64 { return float64(value()) })
}

// catalog is nil before Run has opened it.
func (b *Broker) catalog() *catalog.Catalog {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts == nil {
		return nil
	}
	return b.parts.catalog
}
