package broker

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// dropped counts what was given up for room.
type dropped struct{ bytes, segments atomic.Int64 }

func (d *dropped) register(reg prometheus.Registerer) error {
	return reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "wayside", Subsystem: "broker", Name: "dropped_bytes_total",
		Help: "Records deleted because the disk or its share for records was full.",
	}, func() float64 { return float64(d.bytes.Load()) }))
}

// makeRoom drops the oldest segments of topics that allow it whenever the
// disk, or the share of it that records may take, is too full.
func (b *Broker) makeRoom(ctx context.Context, cat *catalog.Catalog) {
	t := time.NewTicker(retainEvery)
	defer t.Stop()
	for {
		b.dropOnce(cat)
		select {
		case <-t.C:
		case <-b.space.short:
		case <-ctx.Done():
			return
		}
	}
}

func (b *Broker) dropOnce(cat *catalog.Catalog) {
	share := catalog.Percent(cat.BrokerValue("wayside.disk.share"))
	need := b.space.excess(cat.Bytes(), share)
	if need == 0 {
		return
	}
	bytes, segments := cat.DropOldest(need)
	if segments == 0 {
		return
	}
	b.dropped.bytes.Add(bytes)
	b.dropped.segments.Add(int64(segments))
	b.space.usable() // so that producers go on at once
	b.cfg.Log.Warn("dropped the oldest records, the disk or its share for them is full", "segments", segments, "bytes", bytes)
}

// static is the broker's configuration by the site profile, under the names
// that clients know.
func (c *Config) static() map[string]string {
	m := map[string]string{
		"auto.create.topics.enable": "false",
		"socket.request.max.bytes":  strconv.Itoa(int(c.Limits.RequestBytes)),
	}
	if c.AutoCreate {
		m["auto.create.topics.enable"] = "true"
	}
	if c.DiskShare != "" {
		m["wayside.disk.share"] = c.DiskShare
	}
	return m
}
