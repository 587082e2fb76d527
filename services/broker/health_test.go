package broker

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// TestHealthy: a sync that hangs is noticed, an idle broker is not.
func TestHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewCrashable(1)
		b := &Broker{syncer: store.NewSyncer(1, nil)}
		if err := store.Create(fsys, "p"); err != nil {
			t.Fatal(err)
		}
		l, err := store.Open(fsys, "p", store.Options{Syncer: b.syncer})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := b.Healthy(); err != nil {
			t.Errorf("idle for an hour: %v", err)
		}
		gate := make(chan struct{})
		fsys.SetHook(func(op vfs.Op, _ string) error {
			if op == vfs.OpSync {
				<-gate
			}
			return nil
		})
		// A batch of one record without key and value, made by hand.
		batch := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x38\xff\xff\xff\xff\x02")
		h := store.Header{Length: 56, Magic: 2, Records: 1, ProducerID: -1}
		if _, err := l.Append(append(batch, make([]byte, 51)...), h, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := b.Healthy(); err != nil {
			t.Errorf("a sync of 10 s: %v; SD cards stall like that", err)
		}
		time.Sleep(2 * stuckAfter)
		if b.Healthy() == nil {
			t.Error("a sync that hangs was not noticed")
		}
		close(gate)
		synctest.Wait()
		if err := b.Healthy(); err != nil {
			t.Errorf("after the sync: %v", err)
		}
		l.Close()
	})
}

func TestAdvertiser(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, tt := range []struct {
		fixed, host string
		port        int32
		ok          bool
	}{
		{"broker.example.com:9092", "broker.example.com", 9092, true},
		{"[fd00::1]:19092", "fd00::1", 19092, true},
		{"", "localhost", 9092, true}, // a pipe has no address
		{"broker.example.com", "", 0, false},
		{":9092", "", 0, false},
		{"h:0", "", 0, false},
		{"h:65536", "", 0, false},
	} {
		f, err := advertiser(tt.fixed)
		if (err == nil) != tt.ok {
			t.Errorf("%q: got error %v", tt.fixed, err)
			continue
		}
		if err != nil {
			continue
		}
		if host, port := f(a); host != tt.host || port != tt.port {
			t.Errorf("%q: got %s %d", tt.fixed, host, port)
		}
	}
}
