package server

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Counted is a counter whose value can be read back, for the status page.
type Counted struct {
	prometheus.Counter
	n *atomic.Int64
}

func newCounted(c prometheus.Counter) Counted { return Counted{c, new(atomic.Int64)} }

func (c Counted) add(n int64) {
	c.Counter.Add(float64(n))
	c.n.Add(n)
}

// Value is the sum so far.
func (c Counted) Value() int64 { return c.n.Load() }
