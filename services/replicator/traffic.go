package replicator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// traffic counts what goes over the uplink, whatever for.
type traffic struct{ l *link }

var (
	_ kgo.HookBrokerWrite = traffic{}
	_ kgo.HookBrokerRead  = traffic{}
)

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (t traffic) OnBrokerWrite(_ kgo.BrokerMetadata, _ int16, n int, _, _ time.Duration, _ error) {
	t.l.spend(n)
}

// OnBrokerRead implements kgo.HookBrokerRead.
func (t traffic) OnBrokerRead(_ kgo.BrokerMetadata, _ int16, n int, _, _ time.Duration, _ error) {
	t.l.spend(n)
}

func (l *link) spend(n int) {
	l.wire.Add(int64(n))
	l.metrics.wire.Add(float64(n))
	l.budget.Spend(time.Now(), int64(n))
}

// farHooks are for clients of the centre.
func (l *link) farHooks() kgo.Opt { return kgo.WithHooks(l.state, traffic{l}) }

// measure is how fast a link and its source go, over the last half minute or
// so.
type measure struct {
	at            time.Time
	carried, ends int64
	out, in       float64 // records a second
}

// update takes what was carried and written in all, and returns in how many
// seconds lag will be none; -1 if it does not get less.
func (m *measure) update(now time.Time, carried, ends, lag int64) float64 {
	if passed := now.Sub(m.at).Seconds(); !m.at.IsZero() && passed > 0 {
		share := min(1, passed/30)
		m.out += share * (float64(max(0, carried-m.carried))/passed - m.out)
		m.in += share * (float64(max(0, ends-m.ends))/passed - m.in)
	}
	m.at, m.carried, m.ends = now, carried, ends
	switch {
	case lag == 0:
		return 0
	case m.out <= m.in:
		return -1
	}
	return float64(lag) / (m.out - m.in)
}
