// Package link checks the whole path of a record: a device's MQTT message
// through connector, broker and replicator into a real Apache Kafka.
package link

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

const (
	topic   = "sensors"
	central = "shop-0042.sensors"
	devices = 10
	outage  = 10_000 // records published while the centre is away
)

func profile(bootstrap string) string {
	return fmt.Sprintf(`version: 1
site: shop-0042
broker:
  topics:
    - name: %s
      partitions: 3
connect:
  mqtt:
    routes:
      - filter: shop/+/temperature
        topic: %s
links:
  - name: head-office
    bootstrap: [%q]
    topics: [%s]
    prefix: shop-0042.
`, topic, topic, bootstrap, topic)
}

// TestRecordsSurviveOutageAndPowerCut is the product in one test.
func TestRecordsSurviveOutageAndPowerCut(t *testing.T) {
	harness.NeedVM(t)
	kafka := harness.StartKafka(t)
	box := harness.Boot(t, harness.Build(t, profile(kafka.GuestAddr)), func(c *qemu.Config) { c.Disk = qemu.DiskCopy })
	box.WaitReady()

	publish(t, box.Addr("mqtt"), 0, 1)
	waitFor(t, kafka, 1)

	kafka.Stop()
	publish(t, box.Addr("mqtt"), 1, 1+outage) // returns when all are acknowledged
	if err := box.PowerCut(); err != nil {
		t.Fatal(err)
	}
	box.PowerOn()
	kafka.Start()
	waitFor(t, kafka, 1+outage)
	checkArrived(t, kafka, 1+outage)

	box.PowerOff()
}

// publish sends messages from..to with QoS 1, spread over the devices, each
// device's in order, and returns when every one is acknowledged.
func publish(t *testing.T, addr string, from, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	for d := range devices {
		all.Go(func() {
			if err := publishDevice(ctx, addr, d, from, to); err != nil {
				t.Errorf("device %d: %v", d, err)
			}
		})
	}
}

func publishDevice(ctx context.Context, addr string, device, from, to int) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	conn, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls:   []*url.URL{{Scheme: "mqtt", Host: net.JoinHostPort(host, port)}},
		KeepAlive:    60,
		ClientConfig: paho.ClientConfig{ClientID: fmt.Sprintf("device-%d", device)},
	})
	if err != nil {
		return err
	}
	defer conn.Disconnect(context.Background())
	if err := conn.AwaitConnection(ctx); err != nil {
		return err
	}
	for n := from; n < to; n++ {
		if n%devices != device {
			continue
		}
		_, err := conn.Publish(ctx, &paho.Publish{
			QoS: 1, Topic: deviceTopic(device), Payload: fmt.Appendf(nil, "%d", n),
		})
		if err != nil {
			return fmt.Errorf("publish %d: %w", n, err)
		}
	}
	return nil
}

func deviceTopic(device int) string { return fmt.Sprintf("shop/%d/temperature", device) }

// waitFor waits until the central topic holds at least n records.
func waitFor(t *testing.T, kafka *harness.Kafka, n int) {
	t.Helper()
	harness.Eventually(t, 5*time.Minute, fmt.Sprintf("%d records at the centre", n), func(ctx context.Context) error {
		// Offsets count the ends of transactions as well.
		have, err := kafka.Count(ctx, central)
		if err == nil && have >= int64(n) {
			have = int64(len(harness.ReadCommitted(t, kafka.HostAddr, central)))
		}
		if err == nil && have < int64(n) {
			err = fmt.Errorf("%d are there", have)
		}
		return err
	})
}

// checkArrived looks for every record once, in order for each device.
func checkArrived(t *testing.T, kafka *harness.Kafka, n int) {
	t.Helper()
	seen := make([]int, n)
	last := map[string]int{}
	partition := map[string]int32{}
	for _, r := range harness.ReadCommitted(t, kafka.HostAddr, central) {
		var v int
		if _, err := fmt.Sscan(string(r.Value), &v); err != nil || v < 0 || v >= n {
			t.Fatalf("offset %d holds %q, which was never published", r.Offset, r.Value)
		}
		key := string(r.Key)
		if want := deviceTopic(v % devices); key != want {
			t.Errorf("record %d: got key %q, want %q", v, key, want)
		}
		if p, ok := partition[key]; ok && p != r.Partition {
			t.Errorf("key %s is in partitions %d and %d", key, p, r.Partition)
		}
		partition[key] = r.Partition
		// A duplicate may repeat older records; a record that is new must not
		// come before one that was published earlier.
		if seen[v] == 0 {
			if prev, ok := last[key]; ok && v < prev {
				t.Errorf("key %s: record %d arrives after %d", key, v, prev)
			}
			last[key] = v
		}
		seen[v]++
	}
	var lost []string
	duplicates := 0
	for v, times := range seen {
		if times == 0 {
			lost = append(lost, fmt.Sprint(v))
		}
		duplicates += max(0, times-1)
	}
	if len(lost) > 0 {
		t.Errorf("%d records never arrived: %s …", len(lost), strings.Join(lost[:min(10, len(lost))], ", "))
	}
	// A device may send what was acknowledged too late again, with QoS 1; here
	// every message was published once and acknowledged.
	if duplicates > 0 {
		t.Errorf("%d records arrived again", duplicates)
	}
	t.Logf("%d records arrived", n-len(lost))
}
