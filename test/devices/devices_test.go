// Package devices checks what hangs on a box, in one boot: a radio that joins
// networks and loses them, a modem that takes over when the cable is out, a
// serial converter with a Modbus device behind it.
package devices

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

// board is the one with everything in it.
const board = "x86-64-wifi"

const profile = `version: 1
site: shop-0042
network:
  interfaces:
    - {match: wlan1, addresses: [` + apAddress + `/24]} # the access point's
  wifi:
    country: DE
    networks:
      - {ssid: "` + ssid + `", passphrase: shop-floor.key}
connect:
  modbus:
    - name: meter
      transport: rtu
      address: /dev/serial/by-port/1-2-if00-port0
      points: [{name: power, address: "holding:7"}]
`

const passphrase = "correct horse battery"

func TestMain(m *testing.M) {
	switch os.Getenv(playsEnv) {
	case "access":
		fmt.Fprintln(os.Stderr, playAccessPoint())
		os.Exit(1)
	case "reader":
		playReader(os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// overlay is what the test lays over the root: the access point as a service,
// which is this very program.
func overlay(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	// In one place: an image is kept for each set of arguments.
	dir := filepath.Join(harness.CacheDir(t), "devices")
	for name, data := range map[string][]byte{
		"overlay.yaml":                       []byte("entries:\n  - {path: /usr/lib/wayside-test/access, mode: 0o755}\n"),
		"rootfs/usr/lib/wayside-test/access": program,
		"rootfs/usr/lib/wayside/units/testaccess.service": []byte(`[Unit]
Description=Access point of the test

[Service]
ExecStart=/usr/lib/wayside-test/access
Environment=` + playsEnv + `=access
Restart=always
`),
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// place is a box with all that hangs on it.
type place struct {
	*harness.Box
	t *testing.T
	// modem is the status page by way of the modem, access the access point's.
	modem, access string
}

func start(t *testing.T) *place {
	img := harness.BuildBoard(t, board, profile, "--module", "mac80211_hwsim", "--overlay", overlay(t))
	flashed := filepath.Join(t.TempDir(), "flashed.img")
	harness.Tool(t, "cp", "--sparse=always", img.Path, flashed)
	img.Path = flashed
	for name, text := range map[string]string{"shop-floor.key": passphrase, "server.key": "not the radio's", "api.token": "not the radio's"} {
		harness.PutOnBootPartition(t, flashed, layout.ESPSecrets+"/"+name, []byte(text+"\n"))
	}
	serial := filepath.Join(t.TempDir(), "serial")
	playRTU(t, serial, 4711)
	p := &place{t: t, modem: harness.FreeAddr(t), access: harness.FreeAddr(t)}
	p.Box = harness.Boot(t, img, func(c *qemu.Config) {
		c.Extra = []string{
			"-device", "qemu-xhci,id=usb",
			"-netdev", fmt.Sprintf("user,id=modem,net=10.99.0.0/24,hostfwd=tcp:%s-:8080,hostfwd=tcp:%s-:%d", p.modem, p.access, accessPort),
			"-device", "usb-net,bus=usb.0,port=1,netdev=modem",
			"-chardev", "socket,id=serial,path=" + serial,
			"-device", "usb-serial,bus=usb.0,port=2,chardev=serial",
		}
	})
	p.Expect(harness.BootTime, "wayside: ready")
	return p
}

// until waits for what the status page says, asked by way of the modem.
func (p *place) until(what string, ok func(harness.Status) error) {
	p.t.Helper()
	harness.Eventually(p.t, harness.BootTime, what, func(ctx context.Context) error {
		s, err := p.StatusAt(ctx, p.modem)
		if err != nil {
			return err
		}
		return ok(s)
	})
}

// radio waits until the wireless service says want and wlan0 has an address,
// or none.
func (p *place) radio(want, address string) {
	p.t.Helper()
	p.until(want, func(s harness.Status) error {
		said := s.Report("wifi").Summary
		got := strings.Join(iface(s, "wlan0").Addresses, " ")
		if !strings.Contains(said, want) || address != "" && !strings.Contains(got, address) {
			return fmt.Errorf("wifi says %q, wlan0 has %q; want %q and %q", said, got, want, address)
		}
		return nil
	})
}

func iface(s harness.Status, name string) manifest.Interface {
	for _, i := range s.Box.Network {
		if i.Name == name {
			return i
		}
	}
	return manifest.Interface{}
}

// point switches the access point: "on?…" or "off".
func (p *place) point(how string) {
	p.t.Helper()
	if _, err := call(p.t.Context(), "POST", "http://"+p.access+"/"+how); err != nil {
		p.t.Fatal(err)
	}
}

func on(keys, passphrase string) string {
	return "on?" + url.Values{"keys": {keys}, "passphrase": {passphrase}}.Encode()
}

// uplink waits until the box reaches others from an address of a network.
func (p *place) uplink(network string) {
	p.t.Helper()
	p.until("the uplink is "+network, func(s harness.Status) error {
		from, err := call(p.t.Context(), "GET", "http://"+p.access+"/route")
		said := slices.ContainsFunc(s.Box.Network, func(i manifest.Interface) bool {
			return i.Uplink && strings.HasPrefix(strings.Join(i.Addresses, " "), network)
		})
		if err != nil || !strings.HasPrefix(from, network) || !said {
			return fmt.Errorf("packets leave from %q (%v), the status says %+v", from, err, s.Box.Network)
		}
		return nil
	})
}

func TestDevices(t *testing.T) {
	harness.NeedVM(t)
	if !harness.Long() {
		t.Skip("an image and some minutes of its own: run make test-all, or make devices")
	}
	if harness.Arch(t) != "amd64" {
		t.Skip("its board is for x86: run it without WAYSIDE_BOARD")
	}
	p := start(t)

	p.radio("no network of the profile is in reach", "")
	p.point(on("WPA-PSK", passphrase))
	p.radio("in network "+ssid+" (WPA2)", leased)
	// Three in the folder of most services, one in the radio's, one in the page's.
	if got, err := call(t.Context(), "GET", "http://"+p.access+"/readable"); err != nil || got != "5 there; /run/wayside/secrets-wifi/shop-floor.key " {
		t.Errorf("the supplicant can read %q (%v), want the passphrase alone", got, err)
	}
	p.point("off")
	p.until("the radio has lost its network", func(s harness.Status) error {
		if i := iface(s, "wlan0"); i.Up {
			return fmt.Errorf("wlan0 is %+v", i)
		}
		return nil
	})
	p.point(on("SAE", passphrase))
	p.radio("in network "+ssid+" (WPA3)", leased)
	p.point(on("WPA-PSK", "another passphrase"))
	p.radio("network "+ssid+": the passphrase is wrong", "")

	p.uplink("10.0.2.")
	p.cable(false)
	p.uplink("10.99.0.")
	p.cable(true)
	p.uplink("10.0.2.")

	p.until("the meter behind the serial line is read", func(s harness.Status) error {
		for _, d := range s.Report("connect").Devices {
			if d.Name == "meter" && d.State == "up" && d.Records > 0 {
				return nil
			}
		}
		return fmt.Errorf("connect says %+v", s.Report("connect"))
	})
}

// cable plugs the network card in, or out.
func (p *place) cable(in bool) {
	p.t.Helper()
	if err := p.QMP(p.t.Context(), "set_link", map[string]any{"name": "net", "up": in}, nil); err != nil {
		p.t.Fatal(err)
	}
}
