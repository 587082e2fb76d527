//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernel is the network of the machine.
type kernel interface {
	links() ([]Link, error)
	// watch sends whenever a link or an address has changed, until ctx ends.
	// workers waits for what it starts.
	watch(ctx context.Context, workers *sync.WaitGroup) (<-chan struct{}, error)
	// configure brings a link up with its static addresses and routes.
	configure(LinkPlan) error
	// clear takes from a link what old gave and next does not; mtu is the one
	// from before.
	clear(old, next LinkPlan, mtu int) error
	// lease replaces what DHCP gave; either may be nil.
	lease(p LinkPlan, old, new *Lease) error
	addresses(index int) ([]netip.Prefix, error)
}

// rtnl is the kernel by rtnetlink(7).
type rtnl struct{ guard func(what string) }

func (rtnl) links() ([]Link, error) {
	found, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list network interfaces: %v", err)
	}
	var out []Link
	for _, l := range found {
		a := l.Attrs()
		out = append(out, Link{
			Index: a.Index, Name: a.Name,
			Loopback: a.Flags&net.FlagLoopback != 0,
			Ethernet: a.EncapType == "ether" && l.Type() == "device",
			Driver:   driver(a.Name),
			Up:       a.Flags&net.FlagUp != 0,
			Carrier:  a.RawFlags&unix.IFF_LOWER_UP != 0,
			MTU:      a.MTU,
		})
	}
	return out, nil
}

// driver is the one of an interface's device.
func driver(name string) string {
	link, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

func (r rtnl) watch(ctx context.Context, workers *sync.WaitGroup) (<-chan struct{}, error) {
	links, addrs := make(chan netlink.LinkUpdate, 16), make(chan netlink.AddrUpdate, 16)
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return nil, fmt.Errorf("subscribe to link changes: %v", err)
	}
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return nil, fmt.Errorf("subscribe to address changes: %v", err)
	}
	out := make(chan struct{}, 1)
	workers.Go(func() {
		defer r.guard("network changes")
		// Both channels are closed by the library once ctx has ended.
		for links != nil || addrs != nil {
			select {
			case _, ok := <-links:
				if !ok {
					links = nil
				}
			case _, ok := <-addrs:
				if !ok {
					addrs = nil
				}
			}
			select {
			case out <- struct{}{}:
			default: // one is waiting already
			}
		}
	})
	return out, nil
}

func (rtnl) configure(p LinkPlan) error {
	link, err := netlink.LinkByIndex(p.Index)
	if err != nil {
		return fmt.Errorf("find interface %s: %v", p.Name, err)
	}
	var problems []error
	note := func(what string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %v", p.Name, what, err))
		}
	}
	if link.Attrs().Flags&net.FlagLoopback == 0 {
		for _, s := range sysctls(p) {
			note("set "+path.Base(s.file), write(s.file, s.value))
		}
	}
	if p.MTU > 0 {
		note("set MTU", netlink.LinkSetMTU(link, p.MTU))
	}
	note("bring up", netlink.LinkSetUp(link))
	for _, a := range p.Addresses {
		note("add address "+a.String(), netlink.AddrReplace(link, &netlink.Addr{IPNet: ipnet(a)}))
	}
	for _, g := range p.Gateways {
		note("add gateway "+g.String(), netlink.RouteReplace(static(p, g)))
	}
	return errors.Join(problems...)
}

// static is the default route by a gateway of the profile.
func static(p LinkPlan, gateway netip.Addr) *netlink.Route {
	everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if gateway.Is4() {
		everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return route(p, Route{everywhere, gateway}, staticMetric, unix.RTPROT_STATIC)
}

func (rtnl) clear(old, next LinkPlan, mtu int) error {
	link, err := netlink.LinkByIndex(old.Index)
	if err != nil {
		return fmt.Errorf("find interface %s: %v", old.Name, err)
	}
	var problems []error
	for _, g := range old.Gateways {
		if slices.Contains(next.Gateways, g) && old.metric(staticMetric) == next.metric(staticMetric) {
			continue
		}
		if err := netlink.RouteDel(static(old, g)); err != nil && err != unix.ESRCH {
			problems = append(problems, fmt.Errorf("%s: remove gateway %v: %v", old.Name, g, err))
		}
	}
	for _, a := range old.Addresses {
		if slices.Contains(next.Addresses, a) {
			continue
		}
		if err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipnet(a)}); err != nil && err != unix.EADDRNOTAVAIL {
			problems = append(problems, fmt.Errorf("%s: remove address %v: %v", old.Name, a, err))
		}
	}
	if old.MTU != 0 && next.MTU == 0 && mtu != 0 {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			problems = append(problems, fmt.Errorf("%s: set MTU back to %d: %v", old.Name, mtu, err))
		}
	}
	return errors.Join(problems...)
}

// sysctl is one setting of an interface, below /proc/sys/net.
type sysctl struct {
	file  string
	value int
}

// sysctls are set before the link comes up, or the first router advertisement
// would be judged by the old values. Routes of a link that is down are passed
// over: another uplink is then used, and this one again when it is back.
func sysctls(p LinkPlan) []sysctl {
	accept := 0
	if p.RA {
		accept = 1
	}
	v4, v6 := path.Join("ipv4/conf", p.Name), path.Join("ipv6/conf", p.Name)
	return []sysctl{
		{v6 + "/accept_ra", accept}, {v6 + "/ra_defrtr_metric", p.metric(dhcpMetric)},
		{v6 + "/ignore_routes_with_linkdown", 1}, {v4 + "/ignore_routes_with_linkdown", 1},
	}
}

// write sets one. A kernel without IPv6 has no such files.
func write(file string, value int) error {
	err := os.WriteFile(filepath.Join("/proc/sys/net", file), []byte(strconv.Itoa(value)), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (rtnl) lease(p LinkPlan, old, new *Lease) error {
	link, err := netlink.LinkByIndex(p.Index)
	if err != nil {
		return fmt.Errorf("find interface %s: %v", p.Name, err)
	}
	if old != nil && (new == nil || new.Address != old.Address) {
		// It may have expired in the kernel already.
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipnet(old.Address)})
		if err != nil && err != unix.EADDRNOTAVAIL {
			return fmt.Errorf("%s: remove address %v: %v", p.Name, old.Address, err)
		}
	}
	if old != nil {
		if err := dropRoutes(p, old, new); err != nil {
			return err
		}
	}
	if new == nil {
		return nil
	}
	// The kernel drops the address by itself should we not live to do it.
	lifetime := int(time.Until(new.Expiry).Seconds()) + 1
	err = netlink.AddrReplace(link, &netlink.Addr{IPNet: ipnet(new.Address), ValidLft: lifetime, PreferedLft: lifetime})
	if err != nil {
		return fmt.Errorf("%s: add address %v: %v", p.Name, new.Address, err)
	}
	for _, r := range new.Routes {
		if err := netlink.RouteReplace(route(p, r, dhcpMetric, unix.RTPROT_DHCP)); err != nil {
			return fmt.Errorf("%s: add route to %v: %v", p.Name, r.To, err)
		}
	}
	return nil
}

// dropRoutes removes what the new lease, which may be nil, does not give again.
// Routes go with an address only if it was the last one of its interface.
func dropRoutes(p LinkPlan, old, new *Lease) error {
	for _, r := range old.Routes {
		if new != nil && slices.Contains(new.Routes, r) {
			continue
		}
		if err := netlink.RouteDel(route(p, r, dhcpMetric, unix.RTPROT_DHCP)); err != nil && err != unix.ESRCH {
			return fmt.Errorf("%s: remove route to %v: %v", p.Name, r.To, err)
		}
	}
	return nil
}

// route is marked as on-link so that a gateway outside of the address's own
// network works, as clouds and point-to-point links have it.
func route(p LinkPlan, r Route, metric, protocol int) *netlink.Route {
	out := &netlink.Route{LinkIndex: p.Index, Dst: ipnet(r.To), Priority: p.metric(metric),
		Protocol: netlink.RouteProtocol(protocol)}
	if r.Gateway.IsValid() {
		out.Gw = r.Gateway.AsSlice()
		out.Flags = int(netlink.FLAG_ONLINK)
	} else {
		out.Scope = netlink.SCOPE_LINK
	}
	return out
}

func (rtnl) addresses(index int) ([]netip.Prefix, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("find interface %d: %v", index, err)
	}
	found, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list addresses of %s: %v", link.Attrs().Name, err)
	}
	var out []netip.Prefix
	for _, a := range found {
		addr, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ok {
			out = append(out, netip.PrefixFrom(addr.Unmap(), ones))
		}
	}
	return out, nil
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
