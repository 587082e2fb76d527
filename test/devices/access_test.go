package devices

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/waysideos/wayside/init/modules"
)

// The test binary lies in the image, where it is a service: the access point
// on the second of two radios that hear each other (mac80211_hwsim).
const (
	playsEnv   = "WAYSIDE_TEST_PLAYS"
	accessPort = 8099
	apRadio    = "wlan1"
	apAddress  = "10.77.0.1"
	leased     = "10.77.0.50"
	router     = "10.77.0.254" // nobody: the box takes no route to itself
	ssid       = "shop floor"
)

// accessPoint is what the test drives over HTTP.
type accessPoint struct {
	mu  sync.Mutex
	cmd *exec.Cmd
}

// playAccessPoint runs in the box until it is killed.
func playAccessPoint() error {
	loader, err := modules.Open(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	if err := loader.Load("mac80211_hwsim"); err != nil {
		return err
	}
	var a accessPoint
	mux := http.NewServeMux()
	mux.HandleFunc("POST /on", a.on)
	mux.HandleFunc("POST /off", func(http.ResponseWriter, *http.Request) { a.off() })
	mux.HandleFunc("GET /route", route)
	mux.HandleFunc("GET /readable", readable)
	go serveLeases()
	return http.ListenAndServe(fmt.Sprintf(":%d", accessPort), mux)
}

// on begins a network: ?keys=WPA-PSK or SAE, &passphrase=.
func (a *accessPoint) on(w http.ResponseWriter, r *http.Request) {
	a.off()
	keys, protected := r.FormValue("keys"), "0"
	if keys == "SAE" {
		protected = "2"
	}
	conf := fmt.Sprintf(`country=DE
sae_pwe=2
network={
	ssid="%s"
	mode=2
	frequency=2412
	key_mgmt=%s
	proto=RSN
	pairwise=CCMP
	ieee80211w=%s
	psk="%s"
}
`, ssid, keys, protected, r.FormValue("passphrase"))
	if err := os.WriteFile("/run/ap.conf", []byte(conf), 0o600); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cmd = exec.Command("/usr/sbin/wpa_supplicant", "-i", apRadio, "-D", "nl80211", "-c", "/run/ap.conf")
	a.cmd.Stdout, a.cmd.Stderr = os.Stderr, os.Stderr
	if err := a.cmd.Start(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// off has the access point vanish, without a word to anybody: the kernel would
// go on with its beacons.
func (a *accessPoint) off() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
		if radio, err := netlink.LinkByName(apRadio); err == nil {
			_ = netlink.LinkSetDown(radio)
		}
	}
	a.cmd = nil
}

// route says by which of its addresses the box would reach the internet.
func route(w http.ResponseWriter, _ *http.Request) {
	conn, err := net.Dial("udp", "192.0.2.1:9") // asks the kernel, sends nothing
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer conn.Close()
	fmt.Fprint(w, conn.LocalAddr().(*net.UDPAddr).IP)
}

// serveLeases answers DHCP on the access point's side, once its radio is there.
func serveLeases() {
	for {
		s, err := server4.NewServer(apRadio, nil, lease)
		if err == nil {
			err = s.Serve()
		}
		fmt.Fprintln(os.Stderr, "DHCP server:", err)
		time.Sleep(time.Second)
	}
}

func lease(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
	}
	answer, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(leased)), dhcpv4.WithServerIP(net.ParseIP(apAddress)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(apAddress))),
		dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(time.Hour)),
		dhcpv4.WithOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32))),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.ParseIP(router))))
	if err == nil {
		_, err = conn.WriteTo(answer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "DHCP answer:", err)
	}
}

// call drives the access point from outside.
func call(ctx context.Context, method, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, res.Status, body)
	}
	return string(body), err
}
