package updater

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/updater/gate"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/stage"
	"github.com/waysideos/wayside/services/updater/trust"
	"github.com/waysideos/wayside/services/updater/updatertest"
)

// TestFourVerbs: one update, step by step, with a restart of the service
// after each.
func TestFourVerbs(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	step := func(want string) {
		t.Helper()
		if v := b.Update(); v.Phase != want || v.Problem != "" {
			t.Fatalf("got phase %s, problem %q; want %s", v.Phase, v.Problem, want)
		}
		b.restart()
	}
	b.do("refresh", b.refresh)
	step(manifest.UpdateAvailable)
	b.do("prepare", b.prepare)
	step(manifest.UpdatePrepared)
	b.init.took(t)
	b.do("activate", b.activate)
	b.do("activate", b.activate) // once more changes nothing
	b.init.took(t, "/update/activate")
	step(manifest.UpdatePending)
	b.do("reboot", b.reboot)
	b.restart()
	b.turn(t.Context())
	b.init.took(t, "/reboot", "/update/commit")
	v := b.Update()
	if v.Phase != manifest.UpdateIdle || v.Running != "2.0" || v.Last == nil || !v.Last.Committed || v.Prepared != nil {
		t.Errorf("after the commit: got %+v", v)
	}
	names := map[string]bool{}
	for _, c := range v.Last.Checks {
		names[c.Name] = c.OK
	}
	for _, want := range []string{gate.CheckServices, gate.CheckCanary, gate.CheckSource, gate.CheckService + "mqtt"} {
		if !names[want] {
			t.Errorf("committed without check %q: %v", want, v.Last.Checks)
		}
	}
}

// TestTrialFails: the version is refused afterwards, until somebody says
// otherwise.
func TestTrialFails(t *testing.T) {
	b := newBox(t, func(c *Config) { c.Site.Auto = site.AutoInstall })
	b.publish("2.0", 2)
	for range 3 { // refresh and prepare; activate and reboot
		b.turn(t.Context())
		if b.slots.Trial != nil || b.init.slots.Trial != nil {
			break
		}
	}
	b.init.took(t, "/update/activate", "/reboot")
	b.init.slots.Trial.Remaining = 1
	b.mqtt.OK, b.mqtt.Summary = false, "the broker refuses"
	b.restart()
	b.turn(t.Context())
	b.init.took(t, "/update/fail")
	b.mqtt.OK = true
	b.restart()
	for range 3 {
		b.turn(t.Context())
	}
	b.init.took(t)
	v := b.Update()
	if v.Running != "1.0" || v.Blame != blameVersion || v.Last.Check != "service mqtt" || !strings.Contains(v.Last.Reason, "the broker refuses") {
		t.Errorf("back on the old version: got %+v, outcome %+v", v, v.Last)
	}
	if len(v.Refused) != 1 || !strings.Contains(v.Refused[0].Value, "retry") || v.Available != nil {
		t.Errorf("got refused %v, available %v; want 2.0 refused", v.Refused, v.Available)
	}
	b.do("retry", func(ctx context.Context) error { return b.retry(ctx, "") })
	if v := b.Update(); v.Available == nil || v.Available.Version != "2.0" {
		t.Errorf("after retry: got %+v, want 2.0 available", v.Available)
	}
}

// TestWorldWasBad: a source that the old version does not reach either is
// waited for, and then the version gets another chance, some times.
func TestWorldWasBad(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	b.init.slots.Last = &manifest.Outcome{Version: "2.0", Counter: 2, Check: gate.CheckSource, Time: begin}
	b.init.slots.Failed = []manifest.Outcome{*b.init.slots.Last}
	served := b.http
	b.Updater.http = []named{{Source: unreachable{}, name: "gone"}}
	b.turn(t.Context())
	if got := b.Update().Blame; got != "" {
		t.Errorf("at once: got blame %q, want none yet", got)
	}
	b.clock = b.clock.Add(2 * time.Minute)
	b.turn(t.Context())
	if got := b.Update().Blame; got != blameWorld {
		t.Errorf("after two minutes without: got blame %q, want the world's", got)
	}
	b.init.took(t)
	b.Updater.http = served
	b.turn(t.Context())
	b.turn(t.Context())
	b.init.took(t, "/update/retry")

	// The third time in a row the version itself is suspect enough.
	for n := range maxWorldRetries {
		b.init.slots.Last = &manifest.Outcome{Version: "2.0", Counter: 2, Check: gate.CheckSource, Time: begin.Add(time.Duration(n+1) * time.Hour)}
		b.Updater.http = []named{{Source: unreachable{}, name: "gone"}}
		b.turn(t.Context())
		b.Updater.http = served
		b.turn(t.Context())
	}
	b.init.took(t, "/update/retry", "/update/retry")
}

// TestRadioInNoNetwork: a version under which the radio found no network is
// judged by whether the version before finds one.
func TestRadioInNoNetwork(t *testing.T) {
	for _, c := range []struct {
		name  string
		found time.Duration // by the version before, after its start; 0: never
		want  string
	}{
		{"the access point is away", 0, blameWorld},
		{"the version before joins it", 40 * time.Second, blameVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, nil)
			b.publish("2.0", 2)
			b.init.slots.Last = &manifest.Outcome{Version: "2.0", Counter: 2, Check: gate.CheckReach + "mqtt", Time: begin}
			b.init.slots.Failed = []manifest.Outcome{*b.init.slots.Last}
			*b.mqtt = manifest.Report{Name: "mqtt", Outside: true}
			b.turn(t.Context())
			if got := b.Update().Blame; got != "" {
				t.Errorf("at once: got blame %q, want none yet", got)
			}
			b.clock = b.clock.Add(c.found)
			b.mqtt.OK = c.found > 0
			b.turn(t.Context())
			b.clock = b.clock.Add(2 * time.Minute)
			b.turn(t.Context())
			if got := b.Update().Blame; got != c.want {
				t.Errorf("got blame %q, want %q", got, c.want)
			}
			b.init.took(t)
			b.mqtt.OK = true // the world is good again
			b.turn(t.Context())
			if c.want == blameWorld {
				b.init.took(t, "/update/retry")
			} else {
				b.init.took(t)
			}
		})
	}
}

// unreachable is a source that nobody answers for.
type unreachable struct{}

func (unreachable) String() string { return "gone" }

func (unreachable) Open(_ context.Context, name string, _, _ int64) (io.ReadCloser, error) {
	return nil, &source.Error{Source: "gone", Name: name, Kind: source.Unreachable, Err: errors.New("no route to host")}
}

// TestOldReaches: the version is to blame when the one before reaches what it
// did not.
func TestOldReaches(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	b.init.slots.Last = &manifest.Outcome{Version: "2.0", Counter: 2, Check: gate.CheckSource, Time: begin}
	b.turn(t.Context())
	if got := b.Update().Blame; got != blameVersion {
		t.Errorf("got blame %q, want the version's", got)
	}
}

// TestNeverOverTheWayBack: while a version is on trial nothing is written to
// the other slot, and nothing else is activated.
func TestNeverOverTheWayBack(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	b.init.slots.Trial = &manifest.Trial{Version: "1.0", Remaining: 600}
	for name, verb := range map[string]func(context.Context) error{"prepare": b.prepare, "activate": b.activate} {
		if err := verb(t.Context()); !errors.Is(err, errOnTrial) {
			t.Errorf("%s during a trial: got %v", name, err)
		}
	}
}

func TestChoose(t *testing.T) {
	rel := func(version string, counter uint64, change ...func(*release.Target)) release.Target {
		r := release.Target{Kind: release.KindRelease, Board: "b", Arch: "amd64", Version: version, Counter: counter}
		for _, c := range change {
			c(&r)
		}
		return r
	}
	slots := newInit().slots
	slots.Running.Counter, slots.Floor = 5, 5
	slots.Failed = []manifest.Outcome{{Version: "6.1", Check: "canary", Reason: "x"}}
	down := func(r *release.Target) { r.Downgrade = true }
	tests := []struct {
		name     string
		releases []release.Target
		want     string
		refused  int
	}{
		{"newest", []release.Target{rel("7", 7), rel("6", 6), rel("5", 5)}, "7", 0},
		{"nothing newer", []release.Target{rel("5", 5), rel("4", 4)}, "", 0},
		{"another board, arch and kind", []release.Target{
			rel("9", 9, func(r *release.Target) { r.Board = "c" }), rel("8", 8, func(r *release.Target) { r.Arch = "arm64" }),
			rel("7", 7, func(r *release.Target) { r.Kind = "other" })}, "", 0},
		{"a failed one", []release.Target{rel("6.1", 6)}, "", 1},
		{"a step between is needed", []release.Target{rel("9", 9, func(r *release.Target) { r.MinCounter = 7 }), rel("7", 7)}, "7", 1},
		{"a permitted downgrade", []release.Target{rel("3", 3, down)}, "3", 0},
		{"the running version is no downgrade", []release.Target{rel("1.0", 3, down)}, "", 0},
	}
	for _, tt := range tests {
		c := choose(tt.releases, slots.Running, "b", "amd64", func(r *release.Target) string { return refusal(r, slots) })
		got := ""
		if c.next != nil {
			got = c.next.Version
		}
		if got != tt.want || len(c.refused) != tt.refused {
			t.Errorf("%s: got %q and %v, want %q and %d refused", tt.name, got, c.refused, tt.want, tt.refused)
		}
	}
}

// TestPolicy: what the box does by itself, and when.
func TestPolicy(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 3, 4, hour, 30, 0, 0, time.UTC) }
	tests := []struct {
		name  string
		site  func(u *site.Update)
		clock manifest.Clock
		hour  int
		phase string
		waits string
	}{
		{"off", func(u *site.Update) { u.Auto = site.AutoOff }, manifest.Clock{Synchronised: true}, 10, manifest.UpdateIdle, ""},
		{"prepare", func(u *site.Update) { u.Auto = site.AutoPrepare }, manifest.Clock{Synchronised: true}, 10, manifest.UpdatePrepared, "for somebody"},
		{"install", func(u *site.Update) {}, manifest.Clock{Synchronised: true}, 10, manifest.UpdateTrial, ""},
		{"outside the window", func(u *site.Update) { u.Window = "02:00-04:00" }, manifest.Clock{Synchronised: true}, 10, manifest.UpdatePrepared, "for the quiet hours, 02:00-04:00 UTC"},
		{"in the window", func(u *site.Update) { u.Window = "02:00-04:00" }, manifest.Clock{Synchronised: true}, 2, manifest.UpdateTrial, ""},
		{"in the window there, not here", func(u *site.Update) { u.Window, u.Zone = "02:00-04:00", "America/New_York" }, manifest.Clock{Synchronised: true}, 7, manifest.UpdateTrial, ""},
		{"no hour is known", func(u *site.Update) { u.Window = "02:00-04:00" }, manifest.Clock{Source: "floor", Floor: at(2)}, 2, manifest.UpdatePrepared, "for the clock"},
		{"the hardware clock's hour will do", func(u *site.Update) { u.Window = "02:00-04:00" }, manifest.Clock{Source: "rtc", Floor: at(2)}, 2, manifest.UpdateTrial, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, func(c *Config) {
				c.Site.Auto = site.AutoInstall
				tt.site(&c.Site)
			})
			b.init.box.Clock, b.clock = tt.clock, at(tt.hour)
			b.publish("2.0", 2)
			for range 4 {
				if b.init.slots.Trial == nil {
					b.turn(t.Context())
				}
			}
			if err := b.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.tell()
			if v := b.Update(); v.Phase != tt.phase || !strings.HasPrefix(v.Waits, tt.waits) || tt.waits == "" && v.Waits != "" {
				t.Errorf("got phase %s, waits %q, problem %q; want %s, %q", v.Phase, v.Waits, v.Problem, tt.phase, tt.waits)
			}
		})
	}
}

// TestClockThatWasNeverSet: a hardware clock far ahead does not make good
// metadata expire, and the floor makes old metadata do so.
func TestClockThatWasNeverSet(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	b.clock = begin.AddDate(14, 0, 0)
	b.init.box.Clock = manifest.Clock{Source: "rtc", Floor: begin}
	b.do("refresh", b.refresh)
	b.init.box.Clock.Floor = begin.AddDate(1, 0, 0)
	if err := b.refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a year later: got %v, want it expired", err)
	}
}

// TestStick: a stick that is plugged in is seen at once.
func TestStick(t *testing.T) {
	b := newBox(t, func(c *Config) { c.Site.Sources, c.Site.Auto = []string{"usb"}, site.AutoPrepare })
	b.publish("2.0", 2)
	b.turn(t.Context())
	if v := b.Update(); v.Available != nil || !strings.Contains(v.Problem, "no stick") {
		t.Errorf("without a stick: got %+v", v)
	}
	stick := filepath.Join(b.cfg.Media, "sda1")
	plug := func(change func(name string, data []byte) []byte) {
		for name, data := range b.repo.Files {
			file := filepath.Join(stick, "wayside-repo", name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, change(name, bytes.Clone(data)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	says := func(when, phase, problem string) {
		t.Helper()
		b.turn(t.Context())
		b.turn(t.Context()) // nothing waits for a clock, which stands still
		if v := b.Update(); v.Phase != phase || !strings.Contains(v.Problem, problem) || problem == "" && v.Problem != "" {
			t.Errorf("%s: got phase %s, problem %q; want %s, %q", when, v.Phase, v.Problem, phase, problem)
		}
	}
	b.pace.look = time.Hour // it is the stick that counts
	altered := func(name string, data []byte) []byte {
		if strings.Contains(name, ".root.pack") {
			for i := range data {
				data[i] ^= 1
			}
		}
		return data
	}
	plug(altered)
	says("an altered one", manifest.UpdateAvailable, "not what was signed")
	b.repo.Publish()
	plug(altered)
	says("another in its place", manifest.UpdateAvailable, "not what was signed")
	if err := os.RemoveAll(stick); err != nil {
		t.Fatal(err)
	}
	b.turn(t.Context())
	plug(func(_ string, data []byte) []byte { return data })
	says("a good one", manifest.UpdatePrepared, "")
}

// TestNoKeys: a release without update keys says so and does nothing.
func TestNoKeys(t *testing.T) {
	b := newBox(t, func(c *Config) { c.Root = nil })
	for _, verb := range []func(context.Context) error{b.refresh, b.prepare} {
		if err := verb(t.Context()); !errors.Is(err, errNoRoot) {
			t.Errorf("got %v, want %v", err, errNoRoot)
		}
	}
}

// TestOnlyWhatIsNew: what the running slot holds, which the updater may only
// read, is not fetched.
func TestOnlyWhatIsNew(t *testing.T) {
	b := newBox(t, nil)
	b.ranges = true
	r := b.publish("2.0", 2)
	for _, step := range []func(context.Context) error{b.refresh, b.prepare, b.activate, b.reboot} {
		b.do("2.0", step)
	}
	b.init.slots.Trial = nil
	updatertest.Change(t, r, "3.0", 3, 5).AddTo(b.repo)
	b.repo.Publish()
	b.do("refresh", b.refresh)
	before := b.Update().Fetched
	b.do("prepare", b.prepare)
	if got, most := b.Update().Fetched-before, r.Target.PackBytes/4; got > most {
		t.Errorf("fetched %d bytes for a block and the end of a kernel image, want at most %d of %d", got, most, r.Target.PackBytes)
	}
}

// TestSecondSource: half a pack from one source is finished by the next.
func TestSecondSource(t *testing.T) {
	b := newBox(t, nil)
	r := b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	good := b.http[0]
	pack, _ := b.catalog.File(r.Target, release.TargetPack)
	bad := b.repo.Source()
	bad[pack.Name] = bad[pack.Name][:200_000] // of some 430 000
	b.Updater.http = []named{{Source: bad, name: "torn"}, good}
	b.do("prepare", b.prepare)
	// The torn one is read twice, once for its parts and once from its start.
	if got, most := b.Update().Fetched, pack.Length+200_000+50_000; got > most {
		t.Errorf("fetched %d bytes, want at most %d of a pack of %d", got, most, pack.Length)
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"version":1,"progress":{"root_hash":"ab","root_bytes":4096},"prepared":{"format":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeState(data); err == nil && s.Version != stateVersion {
			t.Errorf("got version %d", s.Version)
		}
	})
}

// TestPatchOfTheRunningRelease: it is asked for by what runs, and for nothing else.
func TestPatchOfTheRunningRelease(t *testing.T) {
	b := newBox(t, nil)
	old := updatertest.NewProgram(t, "1.0", 1, 20, 4000)
	r := updatertest.Move(t, old, "2.0", 2)
	r.AddTo(b.repo)
	r.AddPatch(b.repo, old)
	b.repo.Publish()
	b.serve()
	b.do("refresh", b.refresh)
	for _, tt := range []struct {
		runs string
		have []delta.Source
		want bool
	}{
		{old.Target.RootHash, []delta.Source{{}}, true},
		{r.Target.RootHash, []delta.Source{{}}, false},
		{"", []delta.Source{{}}, false},
		{old.Target.RootHash, nil, false},
	} {
		b.slots.Running.RootHash = tt.runs
		c, err := b.content(b.http[0], r.Target, trust.File{}, tt.have)
		if d, ok := c.(stage.Delta); err != nil || !ok || (d.Patch != nil) != tt.want {
			t.Errorf("running %.8s: got %+v, %v, want a patch: %t", tt.runs, c, err, tt.want)
		}
	}
}
