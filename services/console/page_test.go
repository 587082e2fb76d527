package console

import (
	"bytes"
	"flag"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
)

var update = flag.Bool("update", false, "write the goldens of testdata")

// TestPage compares what a person reads on the page with testdata/NAME.txt.
func TestPage(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *Snapshot)
		class  string
	}{
		{"healthy", func(*Snapshot) {}, "good"},
		{"crashed", func(s *Snapshot) {
			s.Box.Services[0] = manifest.Service{Name: "broker", State: "backoff", Restarts: 3, Since: now.Add(-4 * time.Second), LastExit: "exit status 70"}
			s.Services[0] = Answer{Name: "broker", Error: "not running", absent: true}
		}, "bad"},
		{"restarted", func(s *Snapshot) {
			svc := &s.Box.Services[2]
			svc.Restarts, svc.Since, svc.LastExit = 1, now.Add(-90*time.Second), "signal: killed (watchdog)"
		}, "good"},
		{"profile", func(s *Snapshot) {
			s.Box.Profile = manifest.Profile{Site: "shop-17", Source: "last good", Errors: []string{
				`site.yaml:5:3: broker.topcis: unknown field (did you mean "topics"?)`,
				`site.yaml:9:14: links[0].bootstrap[0]: "<script>" is no host name`,
			}}
			s.Box.Claim = &manifest.Claim{Name: "shop-17", Issued: now}
		}, "warn"},
		{"corrupted", func(s *Snapshot) { s.Box.Verity = "corrupted" }, "bad"},
		{"uplink", func(s *Snapshot) {
			s.Box.Clock = manifest.Clock{Source: "floor", Floor: now}
			s.Services[1].Report.Links[0] = manifest.Link{Name: "centre", Since: now.Add(-2 * time.Hour), Lag: 10412, Error: "dial tcp 192.0.2.1:9092: no route to host"}
			s.Box.Disks[1].Free = 1_000_000_000
		}, "warn"},
		{"update-failed", func(s *Snapshot) {
			s.Update = &manifest.Update{Phase: "idle", Running: "0.1.0", Auto: "install", Window: "02:00-04:00 UTC", Blame: "version",
				Refused: []manifest.Fact{{Name: "0.2.0", Value: "it failed on this box (canary: produce: no answer); retry makes it forgotten"}},
				Sources: []manifest.UpdateSource{{Name: "https://updates.example.com", OK: true, Checked: now}, {Name: "usb sda1", Error: "timestamp metadata: is older than what this box has seen"}},
				Last:    &manifest.Outcome{Version: "0.2.0", Check: "canary", Reason: "produce: no answer", ResetCause: "watchdog", Log: []string{"broker: <panic>"}}}
		}, "warn"},
		{"update-preparing", func(s *Snapshot) {
			s.Update = &manifest.Update{Phase: "preparing", Running: "0.1.0", Auto: "prepare", Step: "downloading", Done: 3_000_000, Total: 60_000_000,
				Available: &manifest.UpdateRelease{Version: "0.2.0", Notes: "New kernel", Bytes: 60_000_000},
				Last:      &manifest.Outcome{Version: "0.1.0", Committed: true, Time: now.Add(-time.Hour)}}
		}, "good"},
		{"init-silent", func(s *Snapshot) { s.Box, s.BoxError = nil, "does not answer" }, "bad"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot()
			tt.change(s)
			s.judge(true)
			var buf bytes.Buffer
			if err := render(&buf, s); err != nil {
				t.Fatal(err)
			}
			if got := newView(s).Class; got != tt.class {
				t.Errorf("colour of the headline: got %s, want %s", got, tt.class)
			}
			golden(t, tt.name, textOf(buf.String()))
		})
	}
}

func snapshot() *Snapshot {
	s := &Snapshot{Time: now, Box: healthyBox()}
	for _, name := range []string{"broker", "replicator", "mqtt", "console"} {
		r := healthyReports()[name]
		s.Services = append(s.Services, Answer{Name: name, Report: &r})
	}
	return s
}

var (
	styleRE = regexp.MustCompile(`(?s)<head>.*</head>`)
	cellRE  = regexp.MustCompile(`</(td|th|dt|dd)>\s*`)
	tagRE   = regexp.MustCompile(`<[^>]*>`)
	blankRE = regexp.MustCompile(`\n\s*\n+`)
)

// textOf is what a page says, a line for each row or paragraph.
func textOf(page string) string {
	s := styleRE.ReplaceAllString(page, "")
	s = cellRE.ReplaceAllString(s, " | ")
	s = strings.NewReplacer("</tr>", "\n", "</li>", "\n").Replace(s)
	s = tagRE.ReplaceAllString(s, "")
	var lines []string
	for line := range strings.Lines(blankRE.ReplaceAllString(s, "\n")) {
		lines = append(lines, strings.TrimRight(html.UnescapeString(strings.TrimSpace(line)), " |"))
	}
	return strings.TrimSpace(strings.Join(lines, "\n")) + "\n"
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

// Nothing that a service, a profile or a device says becomes markup.
func TestEscaping(t *testing.T) {
	const evil = `<script>alert(1)</script>"'><img src=x>`
	s := snapshot()
	b := s.Box
	b.Version, b.Board, b.Slot, b.Kernel, b.Watchdog, b.Verity, b.SecureBoot = evil, evil, evil, evil, evil, evil, evil
	b.Profile = manifest.Profile{Site: evil, Source: evil, Errors: []string{evil}}
	b.Problems = []string{evil}
	b.Network[0] = manifest.Interface{Name: evil, Up: true, Addresses: []string{evil}, Gateway: evil, Source: evil}
	b.Disks[0].Mount = evil
	b.Clock.Source = evil
	b.Services[0] = manifest.Service{Name: evil, State: evil, Status: evil, LastExit: evil}
	s.Services = append(s.Services, Answer{Name: evil, Report: &manifest.Report{
		Name: evil, Summary: evil, Facts: []manifest.Fact{{Name: evil, Value: evil}},
		Flows: []manifest.Flow{{From: evil, To: evil}}, Links: []manifest.Link{{Name: evil, Error: evil}},
	}})
	s.judge(true)
	var buf bytes.Buffer
	if err := render(&buf, s); err != nil {
		t.Fatal(err)
	}
	page := buf.String()
	if !strings.Contains(page, "&lt;script&gt;") {
		t.Fatal("the text is not on the page at all")
	}
	for _, bad := range []string{"<script", "<img", `"'>`} {
		if strings.Contains(page, bad) {
			t.Errorf("page holds %q unescaped", bad)
		}
	}
}

func TestText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_499: "999 kB", 999_500: "1.0 MB", 30_200_000_000: "30.2 GB", 5e15: "5000 TB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d): got %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567", -1: "-1", -1000: "-1\u202f000"} {
		if got := countText(n); got != want {
			t.Errorf("countText(%d): got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "0 s", 59 * time.Second: "59 s", time.Hour: "1 h 0 min", 49 * time.Hour: "2 d 1 h"} {
		if got := durationText(d); got != want {
			t.Errorf("durationText(%v): got %q, want %q", d, got, want)
		}
	}
}
