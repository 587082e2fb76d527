//go:build linux

package network

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// machine is a kernel whose cards and cables a test moves.
type machine struct {
	changes chan struct{}

	mu     sync.Mutex
	cards  []Link
	addrs  map[int][]netip.Prefix
	broken bool // configure fails
}

func (m *machine) set(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	m.changes <- struct{}{}
	synctest.Wait()
}

func (m *machine) links() ([]Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Link{}, m.cards...), nil
}

func (m *machine) watch(context.Context, *sync.WaitGroup) (<-chan struct{}, error) {
	return m.changes, nil
}

func (m *machine) configure(p LinkPlan) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errors.New("no such device")
	}
	for i := range m.cards {
		if m.cards[i].Index == p.Index {
			m.cards[i].Up = true
		}
	}
	m.addrs[p.Index] = append(m.addrs[p.Index], p.Addresses...)
	return nil
}

func (m *machine) clear(old, next LinkPlan, mtu int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs[old.Index] = slices.DeleteFunc(m.addrs[old.Index], func(a netip.Prefix) bool {
		return slices.Contains(old.Addresses, a) && !slices.Contains(next.Addresses, a)
	})
	return nil
}

func (m *machine) lease(p LinkPlan, old, new *Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.addrs[p.Index] = nil
	if new != nil {
		m.addrs[p.Index] = []netip.Prefix{new.Address}
	}
	return nil
}

func (m *machine) addresses(index int) ([]netip.Prefix, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addrs[index], nil
}

// office is a DHCP server that always answers the same.
type office struct{}

func (office) acquire(context.Context, netip.Addr) (*Lease, error) {
	now := time.Now()
	return &Lease{Address: netip.MustParsePrefix("192.0.2.5/24"), Renew: now.Add(time.Hour), Rebind: now.Add(2 * time.Hour),
		Expiry: now.Add(3 * time.Hour), DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
		NTP:    []netip.Addr{netip.MustParseAddr("192.0.2.123")},
		Routes: []Route{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")}}}, nil
}

func (o office) renew(ctx context.Context, _ *Lease, _ bool) (*Lease, error) {
	return o.acquire(ctx, netip.Addr{})
}

func playNetwork(t *testing.T, profile site.Network, script func(t *testing.T, m *machine, n *Network)) {
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	synctest.Test(t, func(t *testing.T) {
		m := &machine{changes: make(chan struct{}), addrs: map[int][]netip.Prefix{}}
		n := New(Config{Profile: profile, Log: slog.New(slog.DiscardHandler), ResolvConf: resolv})
		n.kernel, n.client = m, func(string) dhcpClient { return office{} }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		synctest.Wait()
		script(t, m, n)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// unsound is a client that a server's answer breaks.
type unsound struct{ office }

func (unsound) acquire(context.Context, netip.Addr) (*Lease, error) { panic("oops") }

func TestPanicIsGuarded(t *testing.T) {
	caught := make(chan string, 1)
	playNetwork(t, site.Network{}, func(t *testing.T, m *machine, n *Network) {
		n.client = func(string) dhcpClient { return unsound{} }
		n.cfg.Guard = func(what string) {
			if r := recover(); r != nil {
				caught <- what
			}
		}
		m.set(func() { m.cards = []Link{{Index: 2, Name: "eth0", Ethernet: true, Carrier: true}} })
	})
	if got, want := <-caught, "DHCP on eth0"; got != want {
		t.Errorf("got a panic in %q, want it in %q", got, want)
	}
}

func isOnline(n *Network) bool {
	select {
	case <-n.online:
		return true
	default:
		return false
	}
}

func TestCardAppearsLater(t *testing.T) {
	playNetwork(t, site.Network{NTP: []string{"time.example.org"}}, func(t *testing.T, m *machine, n *Network) {
		m.set(func() { m.cards = []Link{{Index: 1, Name: "lo", Loopback: true}} })
		m.set(func() { m.cards = append(m.cards, Link{Index: 2, Name: "eth0", Ethernet: true}) })
		if isOnline(n) {
			t.Error("online without a cable")
		}
		m.set(func() { m.cards[1].Carrier = true })
		want := []manifest.Interface{{Name: "eth0", Up: true, Addresses: []string{"192.0.2.5/24"}, Gateway: "192.0.2.1", Source: "dhcp4", Uplink: true}}
		if diff := cmp.Diff(want, n.Status()); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if err := n.WaitOnline(t.Context()); err != nil {
			t.Errorf("wait online: %v", err)
		}
		if diff := cmp.Diff([]string{"time.example.org", "192.0.2.123"}, n.NTPServers()); diff != "" {
			t.Errorf("time servers (-want +got):\n%s", diff)
		}
		text, err := os.ReadFile(n.cfg.ResolvConf)
		if want := resolvConf(nil, []string{"192.0.2.53"}); err != nil || string(text) != want {
			t.Errorf("resolv.conf: got %q, %v; want %q", text, err, want)
		}
		m.set(func() { m.cards = m.cards[:1] })
		if got := n.Status(); len(got) != 0 {
			t.Errorf("got %v after the card was pulled, want nothing", got)
		}
	})
}

func TestStaticAddressAndRetry(t *testing.T) {
	profile := site.Network{Interfaces: []site.Interface{{Match: "eth0", Addresses: []string{"192.0.2.9/24"}, Gateways: []string{"192.0.2.1"}}}}
	playNetwork(t, profile, func(t *testing.T, m *machine, n *Network) {
		m.set(func() {
			m.broken = true
			m.cards = []Link{{Index: 2, Name: "eth0", Ethernet: true, Carrier: true}}
		})
		if isOnline(n) {
			t.Error("online although nothing could be configured")
		}
		m.mu.Lock()
		m.broken = false
		m.mu.Unlock()
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		want := []manifest.Interface{{Name: "eth0", Up: true, Addresses: []string{"192.0.2.9/24"}, Gateway: "192.0.2.1", Source: "static", Uplink: true}}
		if diff := cmp.Diff(want, n.Status()); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if !isOnline(n) {
			t.Error("not online with a cable and a static address")
		}
	})
}

// Another profile takes from an interface what the one before gave, and what
// it still wants stays.
func TestReconfigure(t *testing.T) {
	static := site.Network{Interfaces: []site.Interface{{Match: "eth0", Addresses: []string{"192.0.2.9/24"}, Gateways: []string{"192.0.2.1"}}},
		DNS: []string{"192.0.2.77"}, NTP: []string{"time.example.org"}}
	playNetwork(t, site.Network{}, func(t *testing.T, m *machine, n *Network) {
		var host string
		n.setHost = func(name string) error { host = name; return nil }
		m.set(func() {
			m.cards = []Link{{Index: 2, Name: "eth0", Ethernet: true, Carrier: true}, {Index: 3, Name: "tun0", Carrier: true}}
		})
		check := func(when string, profile site.Network, want ...manifest.Interface) {
			t.Helper()
			n.Reconfigure(profile, when)
			synctest.Wait()
			if diff := cmp.Diff(want, n.Status()); diff != "" {
				t.Errorf("%s: status (-want +got):\n%s", when, diff)
			}
			if host != when {
				t.Errorf("%s: the host is called %q", when, host)
			}
		}
		leased := manifest.Interface{Name: "eth0", Up: true, Addresses: []string{"192.0.2.5/24"}, Gateway: "192.0.2.1", Source: "dhcp4", Uplink: true}
		fixed := manifest.Interface{Name: "eth0", Up: true, Addresses: []string{"192.0.2.9/24"}, Gateway: "192.0.2.1", Source: "static", Uplink: true}
		check("static", static, fixed)
		if text, err := os.ReadFile(n.cfg.ResolvConf); err != nil || string(text) != resolvConf([]string{"192.0.2.77"}, nil) {
			t.Errorf("resolv.conf: got %q, %v", text, err)
		}
		if got := n.NTPServers(); !slices.Equal(got, static.NTP) {
			t.Errorf("time servers: got %v, want %v", got, static.NTP)
		}
		check("by DHCP", site.Network{}, leased)
		before := n.ifs[2].worker
		check("the same", site.Network{Interfaces: []site.Interface{{Match: "eth0", MTU: 1400}, {Match: "tun0", Addresses: []string{"198.51.100.1/24"}}}}, leased,
			manifest.Interface{Name: "tun0", Up: true, Addresses: []string{"198.51.100.1/24"}, Source: "static"})
		if n.ifs[2].worker != before {
			t.Error("the lease was given up for a change of the MTU")
		}
		check("no tunnel", site.Network{}, leased)
	})
}

func TestReaches(t *testing.T) {
	playNetwork(t, site.Network{}, func(t *testing.T, m *machine, n *Network) {
		asked := 0
		n.answers = func(_ context.Context, index int, gateway netip.Addr) bool {
			asked++
			return index == 2 && gateway.String() == "192.0.2.1"
		}
		if n.Reaches(t.Context()) || asked != 0 {
			t.Error("a gateway was reached without an interface")
		}
		m.set(func() { m.cards = []Link{{Index: 2, Name: "eth0", Ethernet: true, Carrier: true}} })
		if !n.Reaches(t.Context()) {
			t.Error("the gateway of the lease was not asked")
		}
		m.set(func() { m.cards[0].Carrier = false })
		if n.Reaches(t.Context()) {
			t.Error("a gateway was reached without a cable")
		}
	})
}

// branch is an office whose name server has a number of its own.
type branch struct {
	office
	dns string
}

func (b branch) acquire(ctx context.Context, want netip.Addr) (*Lease, error) {
	l, err := b.office.acquire(ctx, want)
	l.DNS = []netip.Addr{netip.MustParseAddr(b.dns)}
	return l, err
}

func TestUplinkFollowsTheLinks(t *testing.T) {
	playNetwork(t, site.Network{}, func(t *testing.T, m *machine, n *Network) {
		n.client = func(link string) dhcpClient {
			return branch{dns: map[string]string{"usb0": "192.0.2.54", "eth0": "192.0.2.53"}[link]}
		}
		// The modem was found first, and comes second all the same.
		m.set(func() {
			m.cards = []Link{
				{Index: 2, Name: "usb0", Ethernet: true, Driver: "rndis_host", Carrier: true}, {Index: 3, Name: "eth0", Ethernet: true, Carrier: true},
			}
		})
		check := func(when string, uplink string, servers ...string) {
			t.Helper()
			for _, i := range n.Status() {
				if i.Uplink != (i.Name == uplink) {
					t.Errorf("%s: got %+v, want the uplink to be %q", when, i, uplink)
				}
			}
			text, err := os.ReadFile(n.cfg.ResolvConf)
			if want := resolvConf(nil, servers); err != nil || string(text) != want {
				t.Errorf("%s: resolv.conf: got %q, %v; want %q", when, text, err, want)
			}
		}
		check("both", "eth0", "192.0.2.53", "192.0.2.54")
		m.set(func() { m.cards[1].Carrier = false })
		check("cable out", "usb0", "192.0.2.54", "192.0.2.53")
		m.set(func() { m.cards[0].Carrier = false })
		check("nothing", "", "192.0.2.53", "192.0.2.54")
		m.set(func() { m.cards[1].Carrier = true })
		check("cable in", "eth0", "192.0.2.53", "192.0.2.54")
	})
}

// A modem that nobody dials is told of, one with an address is not.
func TestModemThatWaitsToBeDialled(t *testing.T) {
	playNetwork(t, site.Network{}, func(t *testing.T, m *machine, n *Network) {
		m.set(func() { m.cards = []Link{{Index: 2, Name: "wwan0", Ethernet: true, Driver: "cdc_mbim"}} })
		if got := n.Status(); len(got) != 1 || !strings.Contains(got[0].Problem, "MBIM") {
			t.Errorf("got %+v, want that the modem waits to be dialled by MBIM", got)
		}
		m.set(func() { m.cards[0].Carrier = true }) // it answers DHCP all the same
		if got := n.Status(); len(got) != 1 || len(got[0].Addresses) == 0 || got[0].Problem != "" {
			t.Errorf("got %+v, want an address and no problem", got)
		}
	})
}
