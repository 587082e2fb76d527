package wifi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/site"
)

// The test binary plays wpa_supplicant when it is run with its arguments.
func TestMain(m *testing.M) {
	if len(os.Args) > 6 && os.Args[1] == "-i" {
		if err := play(os.Args[2], os.Args[6]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashFile, beside the configuration, has the supplicant crash.
const crashFile = "crash"

// play answers on the control socket that the configuration names, as a
// radio that is refused first and then taken in.
func play(radio, conf string) error {
	text, err := os.ReadFile(conf)
	if err != nil {
		return err
	}
	dir := regexp.MustCompile(`(?m)^ctrl_interface=(.*)$`).FindSubmatch(text)[1]
	if err := os.MkdirAll(string(dir), 0o770); err != nil { // as the supplicant does
		return err
	}
	for file, want := range map[string]os.FileMode{string(dir): 0o700, conf: 0o600} {
		if st, err := os.Stat(file); err != nil || st.Mode().Perm() != want {
			return fmt.Errorf("%s: got mode %v (%v), want %v: others could steer the radio, or read passphrases", file, st.Mode(), err, want)
		}
	}
	socket := filepath.Join(string(dir), radio)
	os.Remove(socket) // as the supplicant does
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	asked := 0
	for {
		buf := make([]byte, 4096)
		n, from, err := conn.ReadFromUnix(buf)
		if err != nil {
			return err
		}
		answer := "OK\n"
		switch string(buf[:n]) {
		case "STATUS":
			if asked++; asked == 1 {
				answer = "wpa_state=ASSOCIATING\nssid=shop\n"
				break
			}
			answer = "wpa_state=COMPLETED\nssid=shop\nkey_mgmt=SAE\nfreq=2412\nbssid=02:00:00:00:00:01\n"
			if os.Remove(filepath.Join(filepath.Dir(conf), crashFile)) == nil {
				os.Exit(3)
			}
		case "SIGNAL_POLL":
			answer = "RSSI=-52\nLINKSPEED=54\n"
		}
		// An event goes before the answer: it must not be taken for one.
		conn.WriteToUnix([]byte(`<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="shop" auth_failures=1 duration=10 reason=WRONG_KEY`), from)
		conn.WriteToUnix([]byte(answer), from)
		if asked == 1 && answer != "OK\n" {
			conn.WriteToUnix([]byte("<3>CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:00:01 completed"), from)
		}
	}
}

// radio is a network of security sec with a passphrase in file "shop.wifi".
func radio(sec, secret string, t *testing.T) (site.Wifi, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.wifi"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	no := false
	return site.Wifi{Country: "DE", Interface: "wlan7", Networks: []site.WifiNetwork{
		{SSID: "shop", Security: sec, Passphrase: "shop.wifi", Hidden: &no},
	}}, dir
}

// TestLife: refused, then taken in, then a supplicant that crashes and is
// started anew, as the log has it.
func TestLife(t *testing.T) {
	w, secrets := radio(site.WifiWPA2or3, "correct horse", t)
	w.Networks = append(w.Networks, site.WifiNetwork{SSID: "yard", Security: site.WifiWPA2, Passphrase: "none.wifi"})
	said := make(chan string, 64)
	dir := t.TempDir()
	s, err := New(Config{Wifi: w, Secrets: secrets, Dir: dir, Program: os.Args[0], Registerer: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(lines(said), nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.sys, s.retry, s.every = t.TempDir(), 10*time.Millisecond, 10*time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	expect(t, said, "there is no radio wlan7")
	if err := os.Mkdir(filepath.Join(s.sys, "wlan7"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // lives
		expect(t, said, "the passphrase is wrong")
		expect(t, said, "in network shop (WPA3)")
		if r := s.Status(); !r.OK || !strings.Contains(fmt.Sprint(r.Facts), "-52 dBm") || !strings.Contains(fmt.Sprint(r.Facts), "network yard: ") {
			t.Errorf("got %+v, want it well, with a signal of -52 dBm and a network left out", r)
		}
		if err := os.WriteFile(filepath.Join(dir, crashFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, said, "wifi: wpa_supplicant has ended")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lines hands on every line of a log.
type lines chan<- string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func expect(t *testing.T, said <-chan string, want string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line := <-said:
			if strings.Contains(line, want) {
				return
			}
		case <-late:
			t.Fatalf("the log does not say %q within 30 s", want)
		}
	}
}

// TestOutside: what may be the world's doing is told apart from what is the
// box's own.
func TestOutside(t *testing.T) {
	for _, c := range []struct {
		now         state
		ok, outside bool
	}{
		{state{wpa: completed}, true, false},
		{state{wpa: "SCANNING", unseen: true}, false, true},
		{state{wpa: "SCANNING", refused: "network shop: the passphrase is wrong"}, false, true},
		{state{trouble: "there is no radio wlan0"}, false, false},
	} {
		s := &Service{now: c.now}
		if r := s.Status(); r.OK != c.ok || r.Outside != c.outside {
			t.Errorf("%q: got ok %v, outside %v; want %v and %v", r.Summary, r.OK, r.Outside, c.ok, c.outside)
		}
	}
}

func TestConfiguration(t *testing.T) {
	w, secrets := radio(site.WifiWPA2or3, `a "quoted" phrase`, t)
	yes := true
	w.Networks = append(w.Networks, site.WifiNetwork{SSID: "büro", Hidden: &yes, EAP: &site.WifiEAP{
		Identity: "shop-0042", CA: "ca.pem", Cert: "/etc/c.pem", Key: "k.pem", Server: "radius.example.com"}})
	// One whose passphrase cannot be read keeps nobody from the other.
	got, unusable := configuration(w, "/s", "/run/wifi/control")
	if len(unusable) != 1 || !strings.Contains(unusable[0], "network shop: ") || strings.Contains(got, "73686f70\n") || !strings.Contains(got, "62c3bc726f\n") {
		t.Errorf("left out: %q, of\n%s", unusable, got)
	}
	got, unusable = configuration(w, secrets, "/run/wifi/control")
	if len(unusable) != 0 {
		t.Fatal(unusable)
	}
	want := `ctrl_interface=/run/wifi/control
country=DE
sae_pwe=2
pmf=1
network={
	ssid=73686f70
	priority=2
	psk="a "quoted" phrase"
	key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE
	ieee80211w=1
}
network={
	ssid=62c3bc726f
	priority=1
	scan_ssid=1
	key_mgmt=WPA-EAP WPA-EAP-SHA256
	ieee80211w=1
	eap=TLS
	identity=73686f702d30303432
	ca_cert=CA
	client_cert=2f6574632f632e70656d
	private_key=KEY
	domain_match=7261646975732e6578616d706c652e636f6d
}
`
	for name, file := range map[string]string{"CA": "ca.pem", "KEY": "k.pem"} {
		want = strings.Replace(want, name, fmt.Sprintf("%x", filepath.Join(secrets, file)), 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadPassphrases(t *testing.T) {
	for secret, want := range map[string]string{
		"short":                            "want 8 to 63",
		"fine phrase\nctrl_interface=/etc": "want 8 to 63",
		strings.Repeat("a", 64) + "g":      "want 8 to 63",
		strings.Repeat("ab", 32):           "WPA3 needs the passphrase",
	} {
		w, secrets := radio(site.WifiWPA3, secret, t)
		text, unusable := configuration(w, secrets, "/c")
		if len(unusable) != 1 || !strings.Contains(unusable[0], want) || strings.Contains(text, "network") {
			t.Errorf("%q: got %q, want it left out for %q", secret, unusable, want)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct{ event, want string }{
		{`<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="shop" auth_failures=1 duration=10 reason=WRONG_KEY`, "network shop: the passphrase is wrong"},
		{`<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="a \"b\" reason=x" auth_failures=1 duration=10 reason=CONN_FAILED`,
			`network a "b" reason=x: it does not answer, or the passphrase is wrong`},
		{`<3>CTRL-EVENT-EAP-TLS-CERT-ERROR reason=5 depth=0 subject='/CN=x' err='Domain mismatch'`, "the login server's certificate is refused: Domain mismatch"},
		{"<3>CTRL-EVENT-NETWORK-NOT-FOUND ", "no network of the profile is in reach"},
		{"", "looking for networks"},
	} {
		n := state{wpa: "SCANNING"}
		n.event(c.event)
		if got := n.headline(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.event, got, c.want)
		}
		n.status("wpa_state=COMPLETED\nssid=b\\xc3\\xbcro\nkey_mgmt=WPA2-PSK\n")
		if got, want := n.headline(), "in network büro (WPA2)"; got != want {
			t.Errorf("then taken in: got %q, want %q", got, want)
		}
	}
}
