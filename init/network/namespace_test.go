//go:build linux

package network

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/waysideos/wayside/services/site"
)

// roleVar tells a re-executed test binary which side of the cable it is.
const roleVar = "WAYSIDE_NETWORK_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "server" {
		serveDHCP()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRealKernel runs the package against the kernel and a DHCP server, in
// network namespaces of their own. The test binary starts itself twice: a
// namespace belongs to a thread, and Go moves goroutines between threads.
func TestRealKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if os.Getenv(roleVar) == "client" {
		testClient(t)
		return
	}
	cmd := rerun("client", "-test.run=^TestRealKernel$", "-test.v", "-test.timeout=100s")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in the namespace: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("skipped in the namespace:\n%s", out)
	}
}

func rerun(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS}
	return cmd
}

// serveDHCP waits for the interface srv0 to be given to this namespace and
// serves one address on it, to be renewed after a second.
func serveDHCP() {
	server := net.IPv4(10, 9, 0, 1)
	for {
		if link, err := netlink.LinkByName("srv0"); err == nil {
			netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: server, Mask: net.CIDRMask(24, 32)}})
			netlink.LinkSetUp(link)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	answer := func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		kind := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
			dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 7)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(server), dhcpv4.WithDNS(server),
			dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(time.Second)), dhcpv4.WithLeaseTime(3600))
		if err != nil {
			return
		}
		to := peer
		if udp, ok := peer.(*net.UDPAddr); ok && udp.IP.IsUnspecified() {
			to = &net.UDPAddr{IP: net.IPv4bcast, Port: udp.Port}
		}
		fmt.Printf("%v for %q from %v\n", m.MessageType(), m.HostName(), peer)
		conn.WriteTo(reply.ToBytes(), to)
	}
	s, err := server4.NewServer("srv0", &net.UDPAddr{Port: 67}, answer)
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Serve()
}

func testClient(t *testing.T) {
	peer := rerun("server")
	out, err := peer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { peer.Process.Kill(); peer.Wait() }()
	asked := make(chan string, 100)
	go func() {
		defer close(asked)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			asked <- lines.Text()
		}
	}()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "srv0"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Skipf("make a veth pair: %v", err)
	}
	srv, err := netlink.LinkByName("srv0")
	if err == nil {
		err = netlink.LinkSetNsPid(srv, peer.Process.Pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	n := New(Config{Hostname: "filling-7", Log: slog.New(slog.NewTextHandler(io.Writer(t.Output()), nil)), ResolvConf: resolv,
		Profile: site.Network{Interfaces: []site.Interface{{Match: "eth*", DHCP4: &yes, MTU: 1400, Addresses: []string{"2001:db8::7/64", "10.8.0.7/24"}}}}})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	defer func() { cancel(); <-done }()

	if err := n.WaitOnline(ctx); err != nil {
		t.Fatalf("wait online: %v, %+v", err, n.Status())
	}
	// Each may be repeated: a cable that is new to the kernel loses packets.
	for _, want := range []string{"^DISCOVER ", "^REQUEST ", "^REQUEST .* from 10.9.0.7:"} { // the last is the renewal
		for got := ""; !regexp.MustCompile(want).MatchString(got); {
			select {
			case got = <-asked:
				if !strings.Contains(got, `"filling-7"`) {
					t.Fatalf("the server was asked %s, want it for filling-7", got)
				}
				t.Log(got)
			case <-ctx.Done():
				t.Fatalf("the server was not asked for %s", want)
			}
		}
	}
	status := n.Status()
	if len(status) != 1 || status[0].Gateway != "10.9.0.1" || status[0].Source != "dhcp4" || !status[0].Up {
		t.Errorf("got status %+v, want eth0 by DHCP", status)
	}
	for _, want := range []string{"10.9.0.7/24", "10.8.0.7/24", "2001:db8::7/64"} {
		if !strings.Contains(strings.Join(status[0].Addresses, " "), want) {
			t.Errorf("got addresses %v, want %s too", status[0].Addresses, want)
		}
	}
	checkKernel(t, resolv)
	if !n.Reaches(ctx) {
		t.Error("the gateway is not reached")
	}
	// The other address stays, and holds the routes of the interface.
	no := false
	n.Reconfigure(site.Network{Interfaces: []site.Interface{{Match: "eth*", DHCP4: &no, Addresses: []string{"10.8.0.7/24"}}}}, "filling-7")
	waitKernel(t, ctx, "[10.8.0.7/24] 1500 filling-7")
	n.Reconfigure(site.Network{Interfaces: []site.Interface{{Match: "eth*", Addresses: []string{"10.9.0.8/24"}, Gateways: []string{"10.9.0.99"}}}}, "filling-8")
	waitKernel(t, ctx, "[10.9.0.8/24 by 10.9.0.99] 1500 filling-8")
	short, cancelShort := context.WithTimeout(ctx, 2*time.Second)
	defer cancelShort()
	if n.Reaches(short) {
		t.Error("a gateway is reached that is not there")
	}
}

// waitKernel waits until the kernel has what another profile says, and nothing
// of the one before: addresses and gateways, MTU, host name.
func waitKernel(t *testing.T, ctx context.Context, want string) {
	t.Helper()
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	state := ""
	for ctx.Err() == nil {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, a := range addrs {
			if !a.IP.IsLinkLocalUnicast() {
				have = append(have, a.IPNet.String())
			}
		}
		routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Gw != nil {
				have = append(have, "by "+r.Gw.String())
			}
		}
		again, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		name, _ := os.Hostname()
		if state = fmt.Sprintf("%v %d %s", have, again.Attrs().MTU, name); state == want {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Fatalf("the kernel has %s, want %s", state, want)
	}
}

// checkKernel looks at what is left in the kernel, not at what we think.
func checkKernel(t *testing.T, resolv string) {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if link.Attrs().MTU != 1400 {
		t.Errorf("got MTU %d, want 1400", link.Attrs().MTU)
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range routes {
		found = found || r.Gw.Equal(net.IPv4(10, 9, 0, 1)) && r.Priority > dhcpMetric
	}
	if !found {
		t.Errorf("got routes %v, want a default route by 10.9.0.1", routes)
	}
	if name, _ := os.Hostname(); name != "filling-7" {
		t.Errorf("got host name %s, want filling-7", name)
	}
	if text, _ := os.ReadFile(resolv); !strings.Contains(string(text), "nameserver 10.9.0.1\n") {
		t.Errorf("got resolv.conf %q, want nameserver 10.9.0.1", text)
	}
}
