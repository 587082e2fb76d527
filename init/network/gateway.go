//go:build linux

package network

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reaches says whether the gateway of the uplink answers on its link, asked
// anew; false without an uplink. It takes as long as ctx at most.
func (n *Network) Reaches(ctx context.Context) bool {
	n.mu.Lock()
	index := n.uplink()
	gateway := ""
	if index >= 0 {
		gateway, _ = n.ifs[index].origin()
	}
	n.mu.Unlock()
	addr, err := netip.ParseAddr(gateway)
	return err == nil && n.answers(ctx, index, addr)
}

// answers has the kernel find a neighbour (ARP, RFC 4861): no filter for pings
// is in its way, and a machine that sleeps does not answer.
func answers(ctx context.Context, index int, gateway netip.Addr) bool {
	// What was found out before may be of another network.
	_ = netlink.NeighDel(&netlink.Neigh{LinkIndex: index, IP: gateway.AsSlice()})
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if poke(index, gateway) != nil {
			return false // there is no route to it
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		known, err := netlink.NeighList(index, 0)
		if err != nil {
			continue
		}
		for _, k := range known {
			if a, ok := netip.AddrFromSlice(k.IP); ok && a.Unmap() == gateway &&
				k.State&(unix.NUD_REACHABLE|unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 {
				return true
			}
		}
	}
}

// poke sends a datagram that nobody has to receive.
func poke(index int, gateway netip.Addr) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	const discard = 9 // RFC 863
	if gateway.Is6() {
		gateway = gateway.WithZone(link.Attrs().Name)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, discard)))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte{0})
	return err
}
