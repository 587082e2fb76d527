package console

import (
	"context"
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/manifest"
)

// TestTelemetry: what the page knows is in a record of the box's broker: the
// machine, every service, links, connectors and the updater.
func TestTelemetry(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	reports := healthyReports()
	reports["connect"] = manifest.Report{Name: "connect", Summary: "press is down", Devices: []manifest.Device{{Name: "press", State: "down", Waiting: 7}}}
	f := startBox(t, healthyBox(), reports)
	startUpdater(t, f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{
		Listener: l, InitSocket: f.initSocket, RunDir: f.runDir, Services: []string{"connect", "elsewhere"},
		Telemetry: &Telemetry{Broker: broker.ListenAddrs(), Topic: "box", Every: 50 * time.Millisecond, Site: "shop-17"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })

	cl, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumeTopics("box"), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	wait, stop := context.WithTimeout(t.Context(), 15*time.Second)
	defer stop()
	var rs []*kgo.Record
	for len(rs) == 0 && wait.Err() == nil {
		rs = cl.PollFetches(wait).Records()
	}
	if len(rs) == 0 {
		t.Fatal("no record of telemetry")
	}
	if len(rs[0].Value) > 4000 {
		t.Errorf("a record has %d bytes: it rides metered links", len(rs[0].Value))
	}
	var got TelemetryRecord
	if err := json.Unmarshal(rs[0].Value, &got); err != nil || string(rs[0].Key) != "shop-17" {
		t.Fatalf("key %s, value %s: %v", rs[0].Key, rs[0].Value, err)
	}
	if got.Version != 2 || got.Site != "shop-17" || got.Time.IsZero() || got.OK != s.gather.look().OK || got.Summary == "" {
		t.Errorf("record %+v", got)
	}
	if b := got.Box; b == nil || b.Version != "0.1.0" || b.Slot != "root-a" || len(b.Disks) != 2 || b.Disks[1].Free != 28_900_000_000 || !b.ClockSynced {
		t.Errorf("box %+v", got.Box)
	}
	if got.Update == nil || got.Update.Running != "0.1.0" {
		t.Errorf("update %+v", got.Update)
	}
	if len(got.Links) != 1 || !got.Links[0].Up || len(got.Devices) != 1 || got.Devices[0].Waiting != 7 {
		t.Errorf("links %+v, devices %+v", got.Links, got.Devices)
	}
	var services []string
	for _, svc := range got.Services {
		services = append(services, svc.Name)
		if svc.Name == "broker" && (!svc.OK || svc.Facts["Topics"] != "4" || svc.Memory != 43_100_000) {
			t.Errorf("broker %+v", svc)
		}
	}
	if diff := cmp.Diff([]string{"broker", "replicator", "mqtt", "console", "connect"}, services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

// TestTelemetryStops: a broker that takes a record and does not answer holds up
// telemetry, and not the end of the console.
func TestTelemetryStops(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "box"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	taken := make(chan struct{})
	taking := sync.OnceFunc(func() { close(taken) })
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		taking()
		return nil, nil, true // and no answer
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listener: l, RunDir: t.TempDir(),
		Telemetry: &Telemetry{Broker: broker.ListenAddrs(), Topic: "box", Every: 50 * time.Millisecond, Site: "shop-17"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-taken
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the console has not ended after ten seconds")
	}
}

// TestTelemetryFacts: what a service says under one name, as links do of all
// that happened, is told whole.
func TestTelemetryFacts(t *testing.T) {
	r := manifest.Report{Name: "replicator", Facts: []manifest.Fact{
		{Name: "hq: note", Value: "records were deleted"}, {Name: "hq: guarantee", Value: "exactly once"}, {Name: "hq: note", Value: "the topic was made anew"},
	}}
	got := (&Snapshot{Services: []Answer{{Name: r.Name, Report: &r}}}).telemetry("shop-17").Services[0].Facts
	want := map[string]string{"hq: note": "records were deleted\nthe topic was made anew", "hq: guarantee": "exactly once"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}
