// Package link checks the whole path of a record: a device's message through
// connector, broker, replicator and a gateway into a real Apache Kafka, and a
// command's way back.
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

	"github.com/waysideos/wayside/test/harness"
)

const (
	central = "well-7.sensors"
	devices = 10
	outage  = 3000 // records published while a link is away
)

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
