//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	// answerTimeout is the first wait for an answer; it doubles with each of
	// answerTries.
	answerTimeout = 2 * time.Second
	answerTries   = 3
	// minLease keeps a server that leases for seconds from making us ask
	// without pause.
	minLease = time.Minute
	maxLease = 30 * 24 * time.Hour // an infinite lease is renewed now and then
)

// dhcp is a dhcpClient on one interface. It opens its socket for each
// exchange: a packet socket that stays open sees every packet of the link.
type dhcp struct {
	link     string
	hostname string
}

func (d dhcp) options(more ...dhcpv4.Modifier) []dhcpv4.Modifier {
	out := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionNTPServers, dhcpv4.OptionClasslessStaticRoute,
	)}
	if d.hostname != "" {
		out = append(out, dhcpv4.WithOption(dhcpv4.OptHostName(d.hostname)))
	}
	return append(out, more...)
}

func (d dhcp) acquire(ctx context.Context, want netip.Addr) (*Lease, error) {
	c, err := nclient4.New(d.link, nclient4.WithTimeout(answerTimeout), nclient4.WithRetry(answerTries))
	if err != nil {
		return nil, fmt.Errorf("open DHCP client on %s: %v", d.link, err)
	}
	defer c.Close()
	options := d.options()
	if want.IsValid() {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(want.AsSlice())))
	}
	offer, err := c.DiscoverOffer(ctx, options...)
	if err != nil {
		return nil, err
	}
	// Not with want: the request must name the address that was offered.
	l, err := c.RequestFromOffer(ctx, offer, d.options()...)
	if err != nil {
		return nil, refusal(err)
	}
	return leaseOf(l.ACK, time.Now())
}

func (d dhcp) renew(ctx context.Context, l *Lease, rebind bool) (*Lease, error) {
	server := &net.UDPAddr{IP: l.Server.AsSlice(), Port: nclient4.ServerPort}
	options := []nclient4.ClientOpt{nclient4.WithTimeout(answerTimeout), nclient4.WithRetry(answerTries)}
	if rebind {
		server = nclient4.DefaultServers
	} else {
		options = append(options, nclient4.WithUnicast(&net.UDPAddr{IP: l.Address.Addr().AsSlice(), Port: nclient4.ClientPort}))
	}
	c, err := nclient4.New(d.link, options...)
	if err != nil {
		return nil, fmt.Errorf("open DHCP client on %s: %v", d.link, err)
	}
	defer c.Close()
	request, err := dhcpv4.NewRenewFromAck(l.ack, d.options()...)
	if err != nil {
		return nil, fmt.Errorf("make DHCP request: %v", err)
	}
	answer, err := c.SendAndRead(ctx, server, request, nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err != nil {
		return nil, err
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		return nil, errNak
	}
	return leaseOf(answer, time.Now())
}

func refusal(err error) error {
	var nak *nclient4.ErrNak
	if errors.As(err, &nak) {
		return errNak
	}
	return err
}

// leaseOf reads an acknowledgement.
func leaseOf(ack *dhcpv4.DHCPv4, now time.Time) (*Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return nil, fmt.Errorf("DHCP server offers the address %v", ack.YourIPAddr)
	}
	bits := 32
	if mask := ack.SubnetMask(); mask != nil {
		if ones, size := mask.Size(); size == 32 && ones > 0 {
			bits = ones
		}
	}
	server, _ := netip.AddrFromSlice(ack.ServerIdentifier().To4())
	length := min(max(ack.IPAddressLeaseTime(time.Hour), minLease), maxLease)
	renew := sane(ack.IPAddressRenewalTime(0), length/2, length)
	rebind := max(renew, sane(ack.IPAddressRebindingTime(0), length/8*7, length))
	return &Lease{
		Address: netip.PrefixFrom(addr, bits), Routes: routes(ack), Server: server,
		DNS: addrs(ack.DNS()), NTP: addrs(ack.NTPServers()),
		Renew: now.Add(renew), Rebind: now.Add(rebind), Expiry: now.Add(length),
		ack: ack,
	}, nil
}

// sane takes a server's T1 or T2 if it lies within the lease.
func sane(given, otherwise, length time.Duration) time.Duration {
	if given <= 0 || given >= length {
		return otherwise
	}
	return given
}

func routes(ack *dhcpv4.DHCPv4) []Route {
	var out []Route
	for _, r := range ack.ClasslessStaticRoute() {
		to, ok := netip.AddrFromSlice(r.Dest.IP.To4())
		ones, _ := r.Dest.Mask.Size()
		gateway, ok2 := netip.AddrFromSlice(r.Router.To4())
		if !ok || !ok2 {
			continue
		}
		if gateway.IsUnspecified() {
			gateway = netip.Addr{}
		}
		out = append(out, Route{netip.PrefixFrom(to, ones), gateway})
	}
	if out != nil {
		return out // RFC 3442: the router option is then to be ignored
	}
	for _, gateway := range addrs(ack.Router()) {
		return []Route{{netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway}}
	}
	return nil
}

func addrs(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok && !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}
