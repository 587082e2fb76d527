package console

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// now is the moment of every golden page.
var now = time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC)

// healthyBox is a box on which all is well.
func healthyBox() *manifest.Box {
	up := now.Add(-3*time.Hour - 20*time.Minute)
	return &manifest.Box{
		Version: "0.1.0", Board: "x86-64-uefi", Slot: "root-a", Booted: up, Uptime: 12000, Kernel: "6.12.48-amd64",
		Verity: "ok", Watchdog: "i6300ESB timer", SecureBoot: "on",
		Profile: manifest.Profile{Site: "shop-17", Source: "boot partition"},
		Services: []manifest.Service{
			{Name: "broker", State: "running", Ready: true, PID: 201, Since: up, Memory: 43_100_000},
			{Name: "replicator", State: "running", Ready: true, PID: 202, Since: up, Memory: 18_400_000},
			{Name: "mqtt", State: "running", Ready: true, PID: 203, Since: up, Memory: 16_000_000},
			{Name: "console", State: "running", Ready: true, PID: 204, Since: up, Memory: 14_200_000},
		},
		Network: []manifest.Interface{{Name: "eth0", Up: true, Addresses: []string{"10.0.2.15/24", "fe80::5054:ff:fe12:3456/64"}, Gateway: "10.0.2.2", Source: "dhcp4"}},
		Disks:   []manifest.Disk{{Mount: "/state", Total: 251_000_000, Free: 249_000_000}, {Mount: "/var/lib", Total: 30_200_000_000, Free: 28_900_000_000}},
		Memory:  manifest.Memory{Total: 504_000_000, Available: 331_000_000},
		Clock:   manifest.Clock{Synchronised: true, Source: "ntp:ntp.example.com", Floor: now.AddDate(0, -1, 0)},
	}
}

func healthyReports() map[string]manifest.Report {
	return map[string]manifest.Report{
		"broker": {Name: "broker", OK: true, Summary: "4 topics, 1.2 GB, 3 clients",
			Facts: []manifest.Fact{{Name: "Topics", Value: "4"}, {Name: "Clients", Value: "3"}}},
		"replicator": {Name: "replicator", OK: true, Summary: "1 of 1 links up, 0 records waiting",
			Links: []manifest.Link{{Name: "centre", Up: true, Since: now.Add(-3 * time.Hour)}},
			Flows: []manifest.Flow{{From: "fridge", To: "centre: shop-17.fridge", Records: 1234567, Bytes: 98_765_432}}},
		"mqtt": {Name: "mqtt", OK: true, Summary: "12 devices connected",
			Flows: []manifest.Flow{{From: "fridge/+/temperature", To: "fridge", Records: 1234570, Bytes: 98_766_000}}},
		"console": {Name: "console", OK: true, Summary: "page on [::]:8080"},
	}
}

// fakeBox serves the sockets of a box in a folder of its own.
type fakeBox struct {
	dir        string
	initSocket string
	runDir     string
}

func startBox(t *testing.T, box *manifest.Box, reports map[string]manifest.Report) fakeBox {
	t.Helper()
	// t.TempDir can be longer than a unix socket's path may be.
	dir, err := os.MkdirTemp("", "console")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := fakeBox{dir: dir, runDir: dir}
	if box != nil {
		f.initSocket = filepath.Join(dir, "init.sock")
		serveUnix(t, f.initSocket, answer(box, ""))
	}
	for name, r := range reports {
		f.service(t, name, answer(r, "# TYPE test_records_total counter\ntest_records_total{topic=\"a\"} 7\n"))
	}
	return f
}

func (f fakeBox) service(t *testing.T, name string, h http.Handler) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(f.runDir, name), 0o755); err != nil {
		t.Fatal(err)
	}
	serveUnix(t, filepath.Join(f.runDir, name, manifest.StatusSock), h)
}

func answer(status any, metrics string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(status) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, metrics) })
	return mux
}

func serveUnix(t *testing.T, path string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}

// startConsole runs a console against the fake box and returns its address.
func startConsole(t *testing.T, f fakeBox, services ...string) string {
	t.Helper()
	return startConsoleWith(t, f, "", services...)
}

func startConsoleWith(t *testing.T, f fakeBox, token string, services ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Listener: l, InitSocket: f.initSocket, RunDir: f.runDir, Services: services, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	if err := s.Healthy(); err != nil {
		t.Errorf("healthy after ready: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if s.Healthy() == nil {
			t.Error("healthy after Run has returned")
		}
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}
