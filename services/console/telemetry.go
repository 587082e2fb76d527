package console

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/manifest"
)

// Telemetry says where the box's telemetry is written to.
type Telemetry struct {
	Broker []string      // bootstrap of the box's broker, host:port
	Topic  string        // made if absent
	Every  time.Duration // between two records
	Site   string        // key of the records
}

// TelemetryRecord is the value of a record of telemetry,
// docs/formats/telemetry.md: the page in few words.
type TelemetryRecord struct {
	Version  int                `json:"v"` // 2
	Site     string             `json:"site"`
	Time     time.Time          `json:"time"` // by the box's clock
	OK       bool               `json:"ok"`
	Summary  string             `json:"summary"`
	Findings []Finding          `json:"findings,omitempty"`
	Box      *TelemetryBox      `json:"box,omitempty"` // nil without an init, or if it does not answer
	Update   *TelemetryUpdate   `json:"update,omitempty"`
	Services []TelemetryService `json:"services"`
	Links    []manifest.Link    `json:"links,omitempty"`
	Devices  []manifest.Device  `json:"devices,omitempty"`
}

// TelemetryBox is the machine.
type TelemetryBox struct {
	Version     string          `json:"version"`
	Board       string          `json:"board"`
	Slot        string          `json:"slot"`
	Kernel      string          `json:"kernel"`
	Uptime      float64         `json:"uptime_s"`
	Verity      string          `json:"verity"`
	ClockSynced bool            `json:"clock_synchronised"`
	Profile     string          `json:"profile"` // where it came from
	Disks       []manifest.Disk `json:"disks"`
	Memory      manifest.Memory `json:"memory"`
}

// TelemetryUpdate is how far the box's updates are.
type TelemetryUpdate struct {
	Phase     string `json:"phase"`
	Running   string `json:"running"`
	Available string `json:"available,omitempty"`
	Problem   string `json:"problem,omitempty"`
}

// TelemetryService is one service: what init knows of it and what it says.
type TelemetryService struct {
	Name     string            `json:"name"`
	OK       bool              `json:"ok"`
	Summary  string            `json:"summary"`
	Restarts int               `json:"restarts"`
	Memory   int64             `json:"memory_bytes,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
}

// telemetry writes what the page says to a topic of the box, for links to
// carry like any other.
type telemetry struct {
	cfg  Telemetry
	made bool
}

// tell writes until ctx ends. A box that cannot take a record now is given the
// next one: telemetry is about now.
func (s *Server) tell(ctx context.Context, cfg Telemetry) {
	cl, err := kafka.NewClient(kafka.Config{Bootstrap: cfg.Broker, ClientID: "wayside-telemetry", Log: s.cfg.Log}, kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		s.cfg.Log.Error("telemetry is off", "error", err)
		return
	}
	defer cl.Close()
	// What the broker may have taken is not given up by the client while it
	// lives, whatever the record's context says.
	defer context.AfterFunc(ctx, cl.Close)()
	m := telemetry{cfg: cfg}
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := m.write(ctx, cl, s.gather.look()); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("telemetry is not written", "topic", cfg.Topic, "error", err)
		}
	}
}

// writeWait is how long the broker may take for a record of telemetry.
const writeWait = 15 * time.Second

func (m *telemetry) write(ctx context.Context, cl *kgo.Client, snap *Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, min(m.cfg.Every, writeWait))
	defer cancel()
	if !m.made {
		if err := kafka.EnsureTopic(ctx, cl, m.cfg.Topic, nil); err != nil {
			return fmt.Errorf("create topic: %w", err)
		}
		m.made = true
	}
	v, err := json.Marshal(snap.telemetry(m.cfg.Site))
	if err != nil {
		return err
	}
	return cl.ProduceSync(ctx, &kgo.Record{Topic: m.cfg.Topic, Key: []byte(m.cfg.Site), Value: v}).FirstErr()
}

// telemetry is the snapshot in few words.
func (s *Snapshot) telemetry(site string) TelemetryRecord {
	t := TelemetryRecord{Version: 2, Site: site, Time: s.Time.UTC(), OK: s.OK, Summary: s.Summary, Findings: s.Findings, Services: []TelemetryService{}}
	known := map[string]manifest.Service{}
	if b := s.Box; b != nil {
		t.Box = &TelemetryBox{
			Version: b.Version, Board: b.Board, Slot: b.Slot, Kernel: b.Kernel, Uptime: b.Uptime, Verity: b.Verity,
			ClockSynced: b.Clock.Synchronised, Profile: b.Profile.Source, Disks: b.Disks, Memory: b.Memory,
		}
		for _, svc := range b.Services {
			known[svc.Name] = svc
		}
	}
	if u := s.Update; u != nil {
		t.Update = &TelemetryUpdate{Phase: u.Phase, Running: u.Running, Problem: u.Problem}
		if u.Available != nil {
			t.Update.Available = u.Available.Version
		}
	}
	for _, a := range s.Services {
		if a.absent && known[a.Name].Name == "" {
			continue // not of this box
		}
		svc := TelemetryService{Name: a.Name, Summary: a.Error, Restarts: known[a.Name].Restarts, Memory: known[a.Name].Memory}
		if r := a.Report; r != nil {
			svc.OK, svc.Summary, svc.Facts = r.OK, r.Summary, map[string]string{}
			for _, f := range r.Facts {
				if before, more := svc.Facts[f.Name]; more {
					f.Value = before + "\n" + f.Value
				}
				svc.Facts[f.Name] = f.Value
			}
			t.Links, t.Devices = append(t.Links, r.Links...), append(t.Devices, r.Devices...)
		}
		t.Services = append(t.Services, svc)
	}
	return t
}
