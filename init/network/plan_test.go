//go:build linux

package network

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/site"
)

func TestPlan(t *testing.T) {
	no, yes := false, true
	lo := Link{Index: 1, Name: "lo", Loopback: true}
	eth0 := Link{Index: 2, Name: "eth0", Ethernet: true}
	eth1 := Link{Index: 3, Name: "eth1", Ethernet: true}
	tun := Link{Index: 4, Name: "tunl0"}
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for _, tc := range []struct {
		name    string
		entries []site.Interface
		links   []Link
		want    []LinkPlan
	}{
		{"no profile: DHCP on Ethernet, others left alone", nil, []Link{lo, eth0, tun}, []LinkPlan{
			{Index: 1, Name: "lo"},
			{Index: 2, Name: "eth0", DHCP4: true, RA: true},
		}},
		{"a static IPv4 address ends DHCP, an IPv6 one does not", []site.Interface{
			{Match: "eth0", Addresses: []string{"192.0.2.5/24"}, Gateways: []string{"192.0.2.1"}, MTU: 1400},
			{Match: "eth*", Addresses: []string{"2001:db8::5/64"}, RA: &no},
		}, []Link{eth0, eth1}, []LinkPlan{
			{Index: 2, Name: "eth0", MTU: 1400, RA: true, Addresses: []netip.Prefix{prefix("192.0.2.5/24")}, Gateways: []netip.Addr{addr("192.0.2.1")}},
			{Index: 3, Name: "eth1", DHCP4: true, Addresses: []netip.Prefix{prefix("2001:db8::5/64")}},
		}},
		{"the profile may have both, and the first match counts", []site.Interface{
			{Match: "eth?", DHCP4: &yes, Addresses: []string{"192.0.2.5/24"}},
			{Match: "eth0", DHCP4: &no},
		}, []Link{eth0}, []LinkPlan{
			{Index: 2, Name: "eth0", DHCP4: true, RA: true, Addresses: []netip.Prefix{prefix("192.0.2.5/24")}},
		}},
		{"what is named is configured, whatever it is; loopback never", []site.Interface{
			{Match: "*", DHCP4: &no},
		}, []Link{lo, tun}, []LinkPlan{
			{Index: 1, Name: "lo"},
			{Index: 4, Name: "tunl0", RA: true},
		}},
	} {
		got := Plan(site.Network{Interfaces: tc.entries}, tc.links)
		if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestResolvConf(t *testing.T) {
	got := resolvConf([]string{"192.0.2.1", "2001:db8::1"}, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"})
	want := "# written by init: site profile first, then DHCP\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.2\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMetric(t *testing.T) {
	for _, c := range []struct {
		plan   LinkPlan
		source int
		want   int
	}{
		{LinkPlan{Index: 2, Name: "eth0"}, dhcpMetric, 1002},
		{LinkPlan{Index: 9, Name: "eth0"}, staticMetric, 109},
		{LinkPlan{Index: 1, Name: "wlan0", Late: lateWifi}, staticMetric, 2101},
		{LinkPlan{Index: 4, Name: "wwan0", Late: lateModem}, dhcpMetric, 5004},
		{LinkPlan{Index: 4, Name: "wwan0", Late: lateModem, Metric: 50}, dhcpMetric, 50},
	} {
		if got := c.plan.metric(c.source); got != c.want {
			t.Errorf("%+v: got metric %d, want %d", c.plan, got, c.want)
		}
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		link Link
		want int
	}{
		{Link{Name: "eth0", Driver: "igc"}, 0},
		{Link{Name: "eth1", Driver: "r8152"}, 0}, // a cable on USB
		{Link{Name: "eth1", Driver: "cdc_ether"}, lateModem},
		{Link{Name: "wwan0", Driver: "mhi_net"}, lateModem},
		{Link{Name: "wlan0", Driver: "brcmfmac"}, lateWifi},
	} {
		if got := late(c.link); got != c.want {
			t.Errorf("%+v: got %d, want %d", c.link, got, c.want)
		}
	}
}
