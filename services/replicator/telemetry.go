package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/manifest"
)

// Telemetry is the value of a record of telemetry, docs/formats/telemetry.md.
// Its key is the site.
type Telemetry struct {
	Version int             `json:"v"` // 1
	Site    string          `json:"site"`
	Time    time.Time       `json:"time"` // by the box's clock
	Report  manifest.Report `json:"report"`
}

// telemetry has the replicator's own report written to a topic of the box,
// for links to carry like any other.
type telemetry struct {
	box   kafka.Config
	topic string
	every time.Duration
	site  string
	made  bool
}

// run writes until ctx ends. A box that cannot take a report now is given the
// next one: reports are about now.
func (m *telemetry) run(ctx context.Context, r *Replicator) {
	cl, err := kafka.NewClient(m.box, kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		r.log.Error("telemetry is off", "error", err)
		return
	}
	defer cl.Close()
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.write(ctx, cl, r.Status()); err != nil && ctx.Err() == nil {
			r.log.Warn("telemetry is not written", "topic", m.topic, "error", err)
		}
	}
}

func (m *telemetry) write(ctx context.Context, cl *kgo.Client, rep manifest.Report) error {
	ctx, cancel := context.WithTimeout(ctx, min(m.every, adminWait))
	defer cancel()
	if !m.made {
		_, err := kadm.NewClient(cl).CreateTopic(ctx, 1, -1, nil, m.topic)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic: %w", err)
		}
		m.made = true
	}
	v, err := json.Marshal(Telemetry{Version: 1, Site: m.site, Time: time.Now().UTC(), Report: rep})
	if err != nil {
		return err
	}
	return cl.ProduceSync(ctx, &kgo.Record{Topic: m.topic, Key: []byte(m.site), Value: v}).FirstErr()
}
