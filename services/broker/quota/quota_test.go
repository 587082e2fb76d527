package quota

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waysideos/wayside/services/broker/meta"
)

func of(user, client, ip string, values map[string]float64) meta.Quota {
	at := func(s string) *string {
		switch s {
		case "-":
			return nil
		case "*":
			s = ""
		}
		return &s
	}
	return meta.Quota{Entity: meta.QuotaEntity{User: at(user), ClientID: at(client), IP: at(ip)}, Values: values}
}

// TestPrecedence takes quotas away one by one, from the first that counts to
// the last.
func TestPrecedence(t *testing.T) {
	order := [][2]string{{"ann", "app"}, {"ann", "*"}, {"ann", "-"}, {"*", "app"}, {"*", "*"}, {"*", "-"}, {"-", "app"}, {"-", "*"}}
	var quotas []meta.Quota
	for i, e := range order {
		quotas = append(quotas, of(e[0], e[1], "-", map[string]float64{Produce: float64(i + 1)}))
	}
	quotas = append(quotas, of("bob", "app", "-", map[string]float64{Produce: 99}))
	for i := range order {
		m := New(quotas[i:])
		if got, ok := m.Limit(Produce, "ann", "app"); !ok || got != float64(i+1) {
			t.Errorf("without the first %d: got %v, %v, want %d", i, got, ok, i+1)
		}
		if _, ok := m.Limit(Consume, "ann", "app"); ok {
			t.Error("a quota of producers is one of consumers")
		}
	}
	if _, ok := New(quotas[len(order):]).Limit(Produce, "ann", "app"); ok {
		t.Error("a quota of somebody else counts")
	}
}

// TestRate: whoever waits as long as told gets the quota, no matter in which
// portions.
func TestRate(t *testing.T) {
	for _, portion := range []float64{10, 999, 50_000} {
		synctest.Test(t, func(t *testing.T) {
			m := New([]meta.Quota{of("ann", "-", "-", map[string]float64{Produce: 1000})})
			begin, sent := time.Now(), 0.0
			for sent < 100_000 {
				sent += portion
				time.Sleep(m.Charge(Produce, "ann", "any", portion))
			}
			if rate := sent / time.Since(begin).Seconds(); math.Abs(rate-1000) > 25 {
				t.Errorf("portions of %v: %.0f bytes a second, want 1000", portion, rate)
			}
		})
	}
}

// TestShared: clients of one entity share a quota, those of a default have
// one each.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New([]meta.Quota{
			of("ann", "-", "-", map[string]float64{Produce: 1000}),
			of("*", "*", "-", map[string]float64{Produce: 10}),
			of("-", "-", "*", map[string]float64{Connections: 2}),
		})
		m.Charge(Produce, "ann", "one", 1000)
		if d := m.Charge(Produce, "ann", "two", 500); d != 500*time.Millisecond {
			t.Errorf("the second client of a user waits %v, want 500ms", d)
		}
		m.Charge(Produce, "bob", "one", 30)
		if d := m.Charge(Produce, "bob", "two", 10); d != 0 {
			t.Errorf("another client by default waits %v, want 0s", d)
		}
		for i, want := range []time.Duration{0, 0, time.Second / 2, time.Second / 2} {
			if d := m.Connect("192.0.2.1"); d != want {
				t.Errorf("connection %d waits %v, want %v", i, d, want)
			}
		}
		if d := m.Connect("192.0.2.2"); d != 0 {
			t.Errorf("another address waits %v, want 0s", d)
		}
	})
}

func TestNone(t *testing.T) {
	m := New(nil)
	if m.Active() || m.Charge(Produce, "a", "b", 1e12) != 0 || m.Connect("::1") != 0 {
		t.Error("without a quota somebody has to wait")
	}
	m.Set([]meta.Quota{of("a", "-", "-", map[string]float64{Consume: 1})})
	if !m.Active() || m.Charge(Produce, "a", "b", 1e12) != 0 || m.Charge(Consume, "a", "b", 1e12) != longest {
		t.Error("a quota does not count, or too much")
	}
	m.Set(nil)
	if m.Active() {
		t.Error("a quota stays when it is removed")
	}
}

func TestBounded(t *testing.T) {
	m := New([]meta.Quota{of("-", "*", "-", map[string]float64{Produce: 1})})
	for i := range 3 * maxBuckets {
		m.Charge(Produce, "a", fmt.Sprint(i), 5)
	}
	if n := len(m.buckets); n > maxBuckets {
		t.Errorf("%d buckets, want at most %d", n, maxBuckets)
	}
}
