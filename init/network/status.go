//go:build linux

package network

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/waysideos/wayside/services/manifest"
)

// leases returns what DHCP gave, the uplink's first: servers behind a link
// that is down are asked last.
func (n *Network) leases() []*Lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*Lease
	for _, index := range n.byUse() {
		if l := n.ifs[index].lease; l != nil {
			out = append(out, l)
		}
	}
	return out
}

// byUse sorts the interfaces as the kernel's routes do: those with a link, by
// metric. The caller holds mu.
func (n *Network) byUse() []int {
	out := n.indexes()
	slices.SortStableFunc(out, func(a, b int) int {
		x, y := n.ifs[a], n.ifs[b]
		if x.link.Carrier != y.link.Carrier {
			return map[bool]int{true: -1, false: 1}[x.link.Carrier]
		}
		return cmp.Compare(x.plan.metric(x.source()), y.plan.metric(y.source()))
	})
	return out
}

// source is the metric of where the default route comes from.
func (i *iface) source() int {
	if len(i.plan.Gateways) > 0 {
		return staticMetric
	}
	return dhcpMetric
}

// uplink is the interface that the default route goes by, -1 without one. The
// caller holds mu.
func (n *Network) uplink() int {
	for _, index := range n.byUse() {
		if gateway, _ := n.ifs[index].origin(); gateway != "" && n.ifs[index].link.Carrier {
			return index
		}
	}
	return -1
}

// indexes sorts the interfaces as the kernel does. The caller holds mu.
func (n *Network) indexes() []int {
	var out []int
	for index := range n.ifs {
		out = append(out, index)
	}
	slices.Sort(out)
	return out
}

func (n *Network) writeResolvConf() {
	n.resolv.Lock()
	defer n.resolv.Unlock()
	n.mu.Lock()
	ours := n.cfg.Profile.DNS
	n.mu.Unlock()
	var leased []string
	for _, l := range n.leases() {
		for _, a := range l.DNS {
			leased = append(leased, a.String())
		}
	}
	text := resolvConf(ours, leased)
	if text == n.resolver {
		return
	}
	n.resolver = text
	if err := writeAtomically(n.cfg.ResolvConf, text); err != nil {
		n.cfg.Log.Warn("name servers", "err", err)
	}
}

// NTPServers lists the time servers of the profile, then those DHCP gave.
func (n *Network) NTPServers() []string {
	n.mu.Lock()
	out := slices.Clone(n.cfg.Profile.NTP)
	n.mu.Unlock()
	for _, l := range n.leases() {
		for _, a := range l.NTP {
			if s := a.String(); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// checkOnline opens the gate of WaitOnline. The caller holds mu.
func (n *Network) checkOnline() {
	select {
	case <-n.online:
		return
	default:
	}
	for index, i := range n.ifs {
		if i.link.Loopback || !i.link.Carrier {
			continue
		}
		found, err := n.kernel.addresses(index)
		if err == nil && slices.ContainsFunc(found, func(p netip.Prefix) bool { return p.Addr().IsGlobalUnicast() }) {
			close(n.online)
			return
		}
	}
}

// WaitOnline returns when some interface has a carrier and an address that
// is not link-local, or with the error of ctx.
func (n *Network) WaitOnline(ctx context.Context) error {
	select {
	case <-n.online:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status returns the interfaces under our care, loopback left out.
func (n *Network) Status() []manifest.Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []manifest.Interface
	uplink := n.uplink()
	for _, index := range n.indexes() {
		i := n.ifs[index]
		if i.link.Loopback {
			continue
		}
		s := manifest.Interface{Name: i.plan.Name, Up: i.link.Carrier}
		found, _ := n.kernel.addresses(index) // gone meanwhile: none
		for _, p := range found {
			if !p.Addr().IsLinkLocalUnicast() {
				s.Addresses = append(s.Addresses, p.String())
			}
		}
		s.Gateway, s.Source = i.origin()
		s.Uplink = index == uplink
		if protocol := dialled[i.link.Driver]; protocol != "" && len(s.Addresses) == 0 {
			s.Problem = "a modem that waits to be dialled by " + protocol + ", which this box does not: set it to an Ethernet mode (ECM, NCM or RNDIS)"
		}
		out = append(out, s)
	}
	return out
}

// origin says where the interface's addresses and default gateway come from.
func (i *iface) origin() (gateway, source string) {
	if len(i.plan.Addresses) > 0 {
		source = "static"
	}
	if len(i.plan.Gateways) > 0 {
		gateway = i.plan.Gateways[0].String()
	}
	if i.lease == nil {
		return gateway, source
	}
	for _, r := range i.lease.Routes {
		if gateway == "" && r.To.Bits() == 0 && r.Gateway.IsValid() {
			gateway = r.Gateway.String()
		}
	}
	return gateway, "dhcp4"
}
