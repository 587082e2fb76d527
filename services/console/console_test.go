package console

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
)

func TestHealthz(t *testing.T) {
	tests := []struct {
		name   string
		change func(b *manifest.Box)
		code   int
		want   health
	}{
		{"healthy", func(*manifest.Box) {}, 200, health{OK: true}},
		{"not ready", func(b *manifest.Box) {
			b.Services[0].Ready, b.Services[0].State, b.Services[0].Since = false, "backoff", now.AddDate(100, 0, 0)
		}, 503, health{Reasons: []string{"broker is not ready: waiting to be started again for 0 s."}}},
		{"corrupted", func(b *manifest.Box) { b.Verity = "corrupted" }, 503,
			health{Reasons: []string{"The system partition root-a is damaged: what is on the disk is not what was signed. Replace the disk or write the image again."}}},
		{"profile rejected", func(b *manifest.Box) { b.Profile.Errors = []string{"x"} }, 200, health{OK: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			box := healthyBox()
			tt.change(box)
			url := startConsole(t, startBox(t, box, healthyReports()))
			code, body, _ := get(t, url+"/healthz")
			var got health
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || code != tt.code {
				t.Errorf("got %d, want %d (-want +got):\n%s", code, tt.code, diff)
			}
		})
	}
}

func TestInitAwayIsFailing(t *testing.T) {
	f := startBox(t, nil, healthyReports())
	f.initSocket = f.dir + "/init.sock"
	code, body, _ := get(t, startConsole(t, f)+"/healthz")
	if code != 503 || !strings.Contains(body, "init") {
		t.Errorf("got %d %s, want 503 and init as the reason", code, body)
	}
}

// On a laptop there is no init: what answers is shown, what is not there is
// not missed.
func TestLaptop(t *testing.T) {
	reports := healthyReports()
	delete(reports, "mqtt")
	url := startConsole(t, startBox(t, nil, reports), "broker", "replicator", "mqtt")
	if code, body, _ := get(t, url+"/healthz"); code != 200 || strings.TrimSpace(body) != `{"ok":true}` {
		t.Errorf("healthz: got %d %s", code, body)
	}
	_, page, _ := get(t, url+"/")
	if !strings.Contains(page, "4 topics, 1.2 GB") || strings.Contains(page, ">mqtt<") {
		t.Errorf("the page shows other services than broker and replicator:\n%s", textOf(page))
	}
}

// A service that accepts and never answers costs the page the time-out of one
// question, and is named on it; its metrics are missing, the others' are not.
func TestHangingService(t *testing.T) {
	reports := healthyReports()
	delete(reports, "mqtt")
	f := startBox(t, healthyBox(), reports)
	f.service(t, "mqtt", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	url := startConsole(t, f)
	if _, page, _ := get(t, url+"/"); !strings.Contains(textOf(page), "Something needs attention: mqtt does not answer.") {
		t.Errorf("the page does not name mqtt:\n%s", textOf(page))
	}
	_, metrics, _ := get(t, url+"/metrics")
	for _, want := range []string{`wayside_service_up{service="mqtt"} 0`, `wayside_service_up{service="broker"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestMetrics(t *testing.T) {
	f := startBox(t, healthyBox(), map[string]manifest.Report{"broker": {OK: true}, "mqtt": {OK: true}, "replicator": {OK: true}})
	// Its own service label is kept aside, and a family of another type than
	// the first service's is left out.
	f.service(t, "console", answer(manifest.Report{OK: true},
		"# TYPE a_total counter\na_total{service=\"x\"} 1\n# TYPE test_records_total gauge\ntest_records_total 9\n"))
	f.service(t, "odd", answer(manifest.Report{OK: true}, "this is { not metrics\n"))
	url := startConsole(t, f, "odd")
	code, body, header := get(t, url+"/metrics")
	if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("got %d, %s", code, header.Get("Content-Type"))
	}
	for _, want := range []string{
		`test_records_total{service="broker",topic="a"} 7`,
		`test_records_total{service="mqtt",topic="a"} 7`,
		`a_total{exported_service="x",service="console"} 1`,
		`wayside_box_disk_free_bytes{mount="/var/lib"} 2.89e+10`,
		`wayside_box_uptime_seconds 12000`,
		`wayside_box_info{board="x86-64-uefi",kernel="6.12.48-amd64",site="shop-17",slot="root-a",version="0.1.0"} 1`,
		`wayside_service_restarts_total{service="broker"} 0`,
		`wayside_service_up{service="odd"} 0`,
		`wayside_healthy 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if n := strings.Count(body, "# TYPE test_records_total"); n != 1 || strings.Contains(body, "} 9\n") {
		t.Errorf("test_records_total: got %d families, want one without the odd gauge\n%s", n, body)
	}
}

func TestStatusJSON(t *testing.T) {
	url := startConsole(t, startBox(t, healthyBox(), healthyReports()))
	_, body, _ := get(t, url+"/status")
	var got Snapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if !got.OK || got.Summary != "All is well" || got.Box == nil || len(got.Services) != 4 || got.Services[0].Report.Summary != "4 topics, 1.2 GB, 3 clients" {
		t.Errorf("got %s", body)
	}
}

// Answers of any length are not read to their end.
func TestLongAnswerIsCut(t *testing.T) {
	f := startBox(t, nil, nil)
	f.service(t, "broker", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat(" ", 64<<10)); err != nil {
				return
			}
		}
	}))
	_, body, _ := get(t, startConsole(t, f, "broker")+"/status")
	if !strings.Contains(body, "longer than") {
		t.Errorf("got %s, want a complaint of the length", body)
	}
}

func TestHeaders(t *testing.T) {
	url := startConsole(t, startBox(t, healthyBox(), healthyReports()))
	_, page, header := get(t, url+"/")
	_, rest, _ := strings.Cut(page, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := header.Get("Content-Security-Policy")
	if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, "style-src 'sha256-"+hash+"'") {
		t.Errorf("the policy %q does not allow the page's own style", policy)
	}
	if !strings.HasPrefix(policy, "default-src 'none'") || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got headers %v", header)
	}
	for _, outside := range []string{"http://", "https://", "style=", "<script"} {
		if strings.Contains(page, outside) {
			t.Errorf("page holds %q", outside)
		}
	}
	for path, want := range map[string]int{"/nothing": 404, "/page.html": 404} {
		if code, _, _ := get(t, url+path); code != want {
			t.Errorf("%s: got %d, want %d", path, code, want)
		}
	}
	resp, err := http.Post(url+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", resp.StatusCode)
	}
}

func TestNamesStayInRunDir(t *testing.T) {
	c := newCollector("", "/run", []string{"broker", "../etc", "..", "a/b", "", "broker"})
	if diff := cmp.Diff([]string{"broker"}, c.names(nil)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}
