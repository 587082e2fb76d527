package broker

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/manifest"
)

// lossSeen is the configuration of the broker by which somebody says that a
// loss of its state has been dealt with.
const lossSeen = "wayside.loss.seen"

// openState opens the broker's state. What is lost of it is reported and made
// again from the disk as far as that goes; it never keeps the broker down.
func (b *Broker) openState() (*meta.Store, error) {
	st, err := meta.OpenSized(b.cfg.FS, metaDir, b.cfg.Limits.JournalBytes)
	if err != nil {
		return nil, err
	}
	if n := st.Cut(); n > 0 {
		b.cfg.Log.Warn("cut the torn tail of the broker's state; nothing acknowledged was in it", "bytes", n)
	}
	for _, what := range st.Repairs() {
		b.cfg.Log.Error("the broker's state was damaged", "what", what)
	}
	if !st.Incomplete() {
		return st, nil
	}
	found, err := catalog.Find(b.cfg.FS, st, b.declared())
	if err == nil {
		err = st.Rebuild(found)
	}
	if err != nil {
		st.Close()
		return nil, fmt.Errorf("make the broker's state again: %w", err)
	}
	if l, lost := st.Loss(); lost {
		b.cfg.Log.Error("the broker's state was lost", "loss", l.ID, "what", l.What, "topics_made_again", l.Topics)
	}
	return st, nil
}

// declared are the configurations of the site profile's topics, by name.
func (b *Broker) declared() map[string]map[string]string {
	m := map[string]map[string]string{}
	for _, t := range b.cfg.Topics {
		m[t.Name] = t.Config
		if t.Config == nil {
			m[t.Name] = map[string]string{}
		}
	}
	return m
}

// unseenLoss is the last loss, unless somebody has dealt with it.
func unseenLoss(st *meta.Store, cat *catalog.Catalog) (meta.Loss, bool) {
	l, lost := st.Loss()
	return l, lost && cat.BrokerValue(lossSeen) != l.ID
}

// authorizer judges clients; nil allows everything. Which rules there were
// before a loss nobody knows, so what none speaks of is refused after one.
func (b *Broker) authorizer(p *parts) *auth.Authorizer {
	if b.cfg.Access == nil {
		return nil
	}
	policy := *b.cfg.Access
	if _, lost := unseenLoss(p.meta, p.catalog); lost && policy.AllowIfNone {
		policy.AllowIfNone = false
		b.cfg.Log.Error("access rules may be lost: what none speaks of is refused")
	}
	return auth.NewAuthorizer(policy, p.meta.ACLs())
}

// tell is what the page says of a loss.
func tell(l meta.Loss) manifest.Fact {
	return manifest.Fact{Name: "the broker's state was lost", Value: fmt.Sprintf(
		"%s: %s. %d topics were made again from their folders; access rules, SCRAM users and transactions under way are gone, "+
			"and commits of groups and other settings may be. The damaged files are kept in %s. "+
			"Set what is missing, then say %s=%s in the broker's configuration and start it again",
		time.UnixMilli(l.Ms).UTC().Format(time.RFC3339), l.What, l.Topics, metaDir, lossSeen, l.ID)}
}

// registerLoss exports whether a loss waits for somebody.
func (b *Broker) registerLoss() error {
	return b.cfg.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "wayside", Subsystem: "broker", Name: "state_lost",
		Help: "1 when topics, commits or access rules were lost by damage, until somebody says that it was dealt with.",
	}, func() float64 {
		b.mu.Lock()
		p := b.parts
		b.mu.Unlock()
		if p == nil {
			return 0
		}
		if _, lost := unseenLoss(p.meta, p.catalog); lost {
			return 1
		}
		return 0
	}))
}
