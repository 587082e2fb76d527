//go:build linux

package network

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/services/site"
)

// Link is a network interface as the kernel has it.
type Link struct {
	Index    int
	Name     string
	Loopback bool
	Ethernet bool   // a real or emulated Ethernet card, not a tunnel or bridge
	Driver   string // of the kernel; "" for what is no device
	Up       bool   // administratively
	Carrier  bool   // a cable with somebody at the other end
	MTU      int    // bytes
}

// LinkPlan is what one interface is to be given.
type LinkPlan struct {
	Index     int
	Name      string
	MTU       int  // bytes; 0 leaves it
	Metric    int  // of its routes; 0: by kind and order of interfaces
	Late      int  // what its kind adds to metrics
	DHCP4     bool // ask for an IPv4 address
	RA        bool // let the kernel accept IPv6 router advertisements
	Addresses []netip.Prefix
	Gateways  []netip.Addr
}

// Plan decides which interface gets what. The first entry of the profile
// that matches an interface counts; an Ethernet interface that none matches
// gets DHCP and router advertisements, loopback is only brought up, and all
// others are left alone. What the profile's validation lets through parses;
// an address that does not is left out.
func Plan(profile site.Network, links []Link) []LinkPlan {
	var out []LinkPlan
	for _, l := range links {
		p := LinkPlan{Index: l.Index, Name: l.Name, Late: late(l)}
		if l.Loopback {
			out = append(out, p)
			continue
		}
		entry, matched := match(profile, l.Name)
		if !matched && !l.Ethernet {
			continue
		}
		out = append(out, p.fill(entry))
	}
	return out
}

func match(profile site.Network, name string) (site.Interface, bool) {
	for _, entry := range profile.Interfaces {
		if ok, err := path.Match(entry.Match, name); ok && err == nil {
			return entry, true
		}
	}
	return site.Interface{}, false
}

func (p LinkPlan) fill(entry site.Interface) LinkPlan {
	p.MTU, p.Metric, p.RA, p.DHCP4 = entry.MTU, entry.Metric, true, true
	for _, a := range entry.Addresses {
		if prefix, err := netip.ParsePrefix(a); err == nil {
			p.Addresses = append(p.Addresses, prefix)
			p.DHCP4 = p.DHCP4 && !prefix.Addr().Is4()
		}
	}
	for _, g := range entry.Gateways {
		if addr, err := netip.ParseAddr(g); err == nil {
			p.Gateways = append(p.Gateways, addr)
		}
	}
	if entry.DHCP4 != nil {
		p.DHCP4 = *entry.DHCP4
	}
	if entry.RA != nil {
		p.RA = *entry.RA
	}
	return p
}

// Metrics of routes: what the profile says goes before what DHCP says, and
// interfaces of a kind go in the order of the kernel.
const (
	staticMetric = 100
	dhcpMetric   = 1000
)

// What kinds of interfaces add: what the air carries is slower than a cable,
// and what a modem carries costs money.
const (
	lateWifi  = 2000
	lateModem = 4000
)

// modems are the drivers of modems that show themselves as network cards, and
// of telephones. USB adapters of cables have others.
var modems = []string{"cdc_ether", "cdc_ncm", "cdc_mbim", "huawei_cdc_ncm", "qmi_wwan", "rndis_host", "sierra_net", "ipheth"}

// dialled are the drivers of modems that carry nothing before somebody has
// dialled, and in which protocol. Some are set to do so by themselves.
var dialled = map[string]string{"cdc_mbim": "MBIM", "qmi_wwan": "QMI"}

// late is what the kind of an interface adds to its metrics.
func late(l Link) int {
	switch {
	case strings.HasPrefix(l.Name, "wlan"):
		return lateWifi
	case strings.HasPrefix(l.Name, "wwan"), slices.Contains(modems, l.Driver):
		return lateModem
	}
	return 0
}

// metric is that of routes from a source with the given one.
func (p LinkPlan) metric(source int) int {
	if p.Metric != 0 {
		return p.Metric
	}
	return source + p.Late + p.Index
}
