//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// server plays the DHCP servers of a link and writes down, with the time in
// seconds, what is asked of it.
type server struct {
	began   time.Time
	events  []string
	answer  func(event string) error // nil grants
	length  time.Duration
	address string
}

func (s *server) event(format string, args ...any) string {
	e := fmt.Sprintf(format, args...)
	s.events = append(s.events, fmt.Sprintf("%d %s", int(time.Since(s.began).Seconds()), e))
	return e
}

func (s *server) grant(event string) (*Lease, error) {
	if err := s.answer(event); err != nil {
		return nil, err
	}
	now := time.Now()
	return &Lease{Address: netip.MustParsePrefix(s.address),
		Renew: now.Add(s.length / 2), Rebind: now.Add(s.length / 8 * 7), Expiry: now.Add(s.length)}, nil
}

func (s *server) acquire(_ context.Context, want netip.Addr) (*Lease, error) {
	if want.IsValid() {
		return s.grant(s.event("acquire %v", want))
	}
	return s.grant(s.event("acquire"))
}

func (s *server) renew(_ context.Context, l *Lease, rebind bool) (*Lease, error) {
	if rebind {
		return s.grant(s.event("rebind"))
	}
	return s.grant(s.event("renew"))
}

func playLease(t *testing.T, s *server, script func(carrier chan bool)) {
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		w := &leaser{client: s, log: slog.New(slog.DiscardHandler), carrier: make(chan bool, 1),
			changed: func(old, new *Lease) {
				switch {
				case new == nil:
					s.event("lost")
				case old == nil || old.Address != new.Address:
					s.event("got %v", new.Address)
				}
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.run(ctx) }()
		script(w.carrier)
		cancel()
		<-done
	})
}

func wantEvents(t *testing.T, s *server, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

var errSilence = errors.New("no answer")

func always(string) error { return nil }

func TestLeaseIsRenewed(t *testing.T) {
	s := &server{length: 1000 * time.Second, address: "192.0.2.5/24", answer: always}
	playLease(t, s, func(carrier chan bool) {
		time.Sleep(30 * time.Second) // nothing is asked without a carrier
		carrier <- true
		time.Sleep(1100 * time.Second)
	})
	wantEvents(t, s, "30 acquire", "30 got 192.0.2.5/24", "530 renew", "1030 renew")
}

func TestSilentServerIsAskedToTheEnd(t *testing.T) {
	s := &server{length: 960 * time.Second, address: "192.0.2.5/24"}
	s.answer = func(event string) error {
		if event == "acquire" && len(s.events) < 3 {
			return nil
		}
		return errSilence
	}
	playLease(t, s, func(carrier chan bool) {
		carrier <- true
		time.Sleep(961 * time.Second)
	})
	// T1 at 480, T2 at 840: halves of what is left, but at least a minute.
	wantEvents(t, s, "0 acquire", "0 got 192.0.2.5/24", "480 renew", "660 renew", "750 renew", "810 renew",
		"840 rebind", "900 rebind", "960 lost")
}

func TestRefusalGivesUpTheAddressAtOnce(t *testing.T) {
	s := &server{length: 1000 * time.Second, address: "192.0.2.5/24"}
	s.answer = func(event string) error {
		if event == "renew" {
			s.address = "192.0.2.77/24"
			return errNak
		}
		return nil
	}
	playLease(t, s, func(carrier chan bool) {
		carrier <- true
		time.Sleep(510 * time.Second)
	})
	if len(s.events) != 6 {
		t.Fatalf("got events %q, want 6", s.events)
	}
	if diff := cmp.Diff([]string{"500 renew", "500 lost"}, s.events[2:4]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got := s.events[5][len(s.events[5])-17:]; got != "got 192.0.2.77/24" {
		t.Errorf("got last event %q, want the new address", s.events[5])
	}
}

// The cable may have been put into another network: ask at once, but keep
// the address until there is a better one.
func TestCableMoved(t *testing.T) {
	s := &server{length: 1000 * time.Second, address: "192.0.2.5/24", answer: always}
	playLease(t, s, func(carrier chan bool) {
		carrier <- true
		time.Sleep(100 * time.Second)
		carrier <- false
		time.Sleep(100 * time.Second)
		synctest.Wait()
		s.address = "198.51.100.9/24"
		carrier <- true
		time.Sleep(100 * time.Second)
	})
	wantEvents(t, s, "0 acquire", "0 got 192.0.2.5/24", "200 acquire 192.0.2.5", "200 got 198.51.100.9/24")
}

func TestDiscoveryNeverEnds(t *testing.T) {
	s := &server{answer: func(string) error { return errSilence }}
	playLease(t, s, func(carrier chan bool) {
		carrier <- true
		time.Sleep(time.Hour)
	})
	if n := len(s.events); n < 45 || n > 100 {
		t.Errorf("got %d attempts in an hour, want one a minute or so", n)
	}
}

func TestLeaseOf(t *testing.T) {
	ip := func(s string) net.IP { return net.ParseIP(s).To4() }
	ack := func(options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(dhcpv4.WithYourIP(ip("192.0.2.5")))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range options {
			m.UpdateOption(o)
		}
		return m
	}
	now := time.Unix(1000, 0)
	router := dhcpv4.OptRouter(ip("192.0.2.1"))
	_, everywhere, _ := net.ParseCIDR("0.0.0.0/0")
	_, ten, _ := net.ParseCIDR("10.0.0.0/8")
	for _, tc := range []struct {
		name                  string
		ack                   *dhcpv4.DHCPv4
		address               string
		renew, rebind, expiry time.Duration
		routes                []string
	}{
		{"usual", ack(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)), router, dhcpv4.OptIPAddressLeaseTime(800*time.Second)),
			"192.0.2.5/24", 400 * time.Second, 700 * time.Second, 800 * time.Second, []string{"0.0.0.0/0 192.0.2.1"}},
		{"the server's own times", ack(dhcpv4.OptIPAddressLeaseTime(800*time.Second), dhcpv4.OptRenewTimeValue(10*time.Second), dhcpv4.OptRebindingTimeValue(20*time.Second)),
			"192.0.2.5/32", 10 * time.Second, 20 * time.Second, 800 * time.Second, nil},
		{"times that make no sense", ack(dhcpv4.OptIPAddressLeaseTime(time.Second), dhcpv4.OptRenewTimeValue(90*time.Second)),
			"192.0.2.5/32", 30 * time.Second, 52500 * time.Millisecond, time.Minute, nil},
		{"classless routes put the router aside", ack(router, dhcpv4.OptIPAddressLeaseTime(time.Minute), dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: everywhere, Router: ip("192.0.2.9")}, &dhcpv4.Route{Dest: ten, Router: ip("0.0.0.0")})),
			"192.0.2.5/32", 30 * time.Second, 52500 * time.Millisecond, time.Minute, []string{"0.0.0.0/0 192.0.2.9", "10.0.0.0/8 invalid IP"}},
	} {
		l, err := leaseOf(tc.ack, now)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var routes []string
		for _, r := range l.Routes {
			routes = append(routes, r.To.String()+" "+r.Gateway.String())
		}
		got := []any{l.Address.String(), l.Renew.Sub(now), l.Rebind.Sub(now), l.Expiry.Sub(now), routes}
		want := []any{tc.address, tc.renew, tc.rebind, tc.expiry, tc.routes}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if _, err := leaseOf(&dhcpv4.DHCPv4{YourIPAddr: net.IPv4zero}, now); err == nil {
		t.Error("got a lease of 0.0.0.0, want an error")
	}
}
