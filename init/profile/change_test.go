package profile

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// bench is a running box whose profile changes.
type bench struct {
	*Changer
	enforced []string // sites, in order
	kept     []string
	gateway  bool
	busy     string
	broken   string // site that cannot be enforced
	slow     time.Duration
}

// running is a box that has started with onESP on its boot partition.
func running(t *testing.T, state vfs.FS, onESP string) *bench {
	t.Helper()
	r, _ := boot(t, state, onESP)
	b := &bench{gateway: true}
	b.Changer = NewChanger(ChangerConfig{
		State: state, Boot: r, Log: slog.New(slog.DiscardHandler),
		Enforce: func(was, r *Result) ([]string, []string, error) {
			time.Sleep(b.slow)
			b.enforced = append(b.enforced, r.Profile.Site)
			if r.Profile.Site == b.broken {
				return nil, nil, errors.New("out of memory")
			}
			return Affected(was.Profile, r.Profile), NextStart(was.Profile, r.Profile), nil
		},
		Kept:    func(_, r *Result) { b.kept = append(b.kept, r.Profile.Site) },
		Reaches: func(context.Context) bool { return b.gateway },
		Busy:    func() string { return b.busy },
	})
	return b
}

func (b *bench) apply(text string) error {
	return b.Apply(manifest.ApplyProfile{File: "shop.yaml", Text: []byte(text)})
}

// change applies a profile and keeps it.
func (b *bench) change(t *testing.T, text string) {
	t.Helper()
	must(t, b.apply(text))
	must(t, b.Keep())
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	var no slots.Refusal
	if !errors.As(err, &no) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it refused with %q", err, want)
	}
}

// What is applied to a box with a claim does not rename it, on trial or kept.
func TestApplyToClaimed(t *testing.T) {
	state := vfs.NewCrashable(1)
	b := running(t, state, good)
	b.cfg.Own = site.Own{Site: "box-7"}
	must(t, b.apply(next))
	must(t, b.Keep())
	if diff := cmp.Diff([]string{"box-7"}, b.enforced); diff != "" {
		t.Errorf("enforced (-want +got):\n%s", diff)
	}
	r, _ := boot(t, state, good) // kept is the profile as it was written
	expect(t, r, "shop-13", "applied")
}

// Of the boot partition and what was applied the later decision counts.
func TestWhichProfileWins(t *testing.T) {
	const third = "version: 1\nsite: shop-14\n"
	state := vfs.NewCrashable(1)
	running(t, state, good).change(t, next)
	for _, step := range []struct{ name, onESP, site, source string }{
		{"the boot partition as it was", good, "shop-13", "applied"},
		{"nothing on the boot partition", "", "shop-13", "applied"},
		{"a bad one on the boot partition", bad, "shop-13", "applied"},
		{"the boot partition as it was, again", good, "shop-13", "applied"},
		{"another one on the boot partition", third, "shop-14", "boot partition"},
		{"the first one back on the boot partition", good, "shop-12", "boot partition"},
		{"nothing on the boot partition now", "", "shop-12", "last good"},
	} {
		r, _ := boot(t, state, step.onESP)
		if r.Profile.Site != step.site || r.Report.Source != step.source {
			t.Errorf("%s: got %q from %q, want %q from %q", step.name, r.Profile.Site, r.Report.Source, step.site, step.source)
		}
	}

	// What was applied over a bad file, or over none, gives way to a good one.
	for _, before := range []string{bad, ""} {
		state := vfs.NewCrashable(1)
		running(t, state, before).change(t, next)
		r, _ := boot(t, state, before)
		expect(t, r, "shop-13", "applied")
		r, _ = boot(t, state, good)
		expect(t, r, "shop-12", "boot partition")
	}
	r, _ := boot(t, nil, good)
	expect(t, r, "shop-12", "boot partition")
}

// A trial is told of, leaves nothing on the disk, and ends as is said.
func TestTrial(t *testing.T) {
	state := vfs.NewCrashable(1)
	b := running(t, state, good)
	refused(t, b.Keep(), "no site profile is on trial")
	refused(t, b.Back("x"), "no site profile is on trial")
	must(t, b.apply(next+"broker: {listen: ':9093'}\n"))
	refused(t, b.apply(good), "another site profile is on trial")
	got := b.Report()
	if got.Site != "shop-13" || got.Source != "applied" || got.Change.State != manifest.ProfileTrial || got.Change.Remaining < 200 ||
		!got.Change.Network || !slices.Contains(got.Change.Services, "broker") {
		t.Errorf("on trial: got %+v, %+v", got, got.Change)
	}
	r, _ := boot(t, state, good)
	expect(t, r, "shop-12", "boot partition")

	must(t, b.Back("canary: no answer"))
	must(t, b.Back("canary: no answer")) // the answer may have been lost
	got = b.Report()
	if got.Site != "shop-12" || got.Source != "boot partition" || got.Change.State != manifest.ProfileBack || got.Change.Reason != "canary: no answer" {
		t.Errorf("taken back: got %+v, %+v", got, got.Change)
	}
	b.change(t, next)
	must(t, b.Keep())
	if diff := cmp.Diff([]string{"shop-13", "shop-12", "shop-13"}, b.enforced); diff != "" {
		t.Errorf("enforced (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"shop-13"}, b.kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	r, _ = boot(t, state.Crash(), good)
	expect(t, r, "shop-13", "applied")
}

// Nobody who is cut off can say so: time takes a profile back.
func TestTakenBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, vfs.NewCrashable(1), good)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		must(t, b.apply(next))
		b.gateway = false
		time.Sleep(Window - time.Second)
		if err := b.Keep(); err == nil || !strings.Contains(err.Error(), "gateway") {
			t.Errorf("keep without the gateway: got %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := b.Report(); got.Site != "shop-12" || got.Change.State != manifest.ProfileBack || !strings.Contains(got.Change.Reason, "within 5m0s") {
			t.Errorf("got %+v, %+v, want it taken back", got, got.Change)
		}
		// The next one has all its time, though the one before ended early.
		b.gateway = true
		must(t, b.apply(next))
		time.Sleep(Window / 2)
		must(t, b.Back("x"))
		must(t, b.apply(next))
		time.Sleep(Window - time.Second)
		must(t, b.Keep())
		time.Sleep(2 * Window)
		synctest.Wait()
		if got := b.Report(); got.Change.State != manifest.ProfileKept {
			t.Errorf("got %+v, want it kept", got.Change)
		}
		cancel()
		must(t, <-done)
	})
}

// A trial begins when all of the profile is in force: who reached the box before
// says nothing of its new network.
func TestTrialBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := running(t, vfs.NewCrashable(1), good)
		b.slow = 3 * time.Second
		must(t, b.apply(next))
		if got := b.Report().Change.Time; !got.Equal(time.Now()) {
			t.Errorf("the trial began %v before the profile was in force", time.Since(got))
		}
	})
}

// A gateway that did not answer before is not asked for.
func TestKeepWithoutGateway(t *testing.T) {
	b := running(t, vfs.NewCrashable(1), good)
	b.gateway = false
	b.change(t, next)
}

func TestApplyRefuses(t *testing.T) {
	state := vfs.NewCrashable(1)
	b := running(t, state, good)
	refused(t, b.apply("version: 1\nsite: shop-13\nbrokr: {}\n"), `shop.yaml:3:1: brokr: unknown field (did you mean "broker"?)`)
	refused(t, b.Apply(manifest.ApplyProfile{Back: true}), "there is no profile to go back to")
	b.busy = "a version is on trial"
	refused(t, b.apply(next), "a version is on trial")
	refused(t, running(t, nil, good).apply(next), "the state partition is not there")
	if len(b.enforced) > 0 || b.Report().Change != nil {
		t.Errorf("enforced %q, change %+v of what was refused", b.enforced, b.Report().Change)
	}
	b.busy, b.broken = "", "shop-13"
	if err := b.apply(next); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("got %v, want why it is not in force", err)
	}
	if diff := cmp.Diff([]string{"shop-13", "shop-12"}, b.enforced); diff != "" || b.Report().Change != nil {
		t.Errorf("change %+v, enforced (-want +got):\n%s", b.Report().Change, diff)
	}
}

func TestBackToTheOneBefore(t *testing.T) {
	state := vfs.NewCrashable(1)
	b := running(t, state, good)
	b.change(t, next)
	must(t, b.Apply(manifest.ApplyProfile{Back: true}))
	must(t, b.Keep())
	r, _ := boot(t, state, good)
	expect(t, r, "shop-12", "applied")
}

// A power cut at any write leaves the old decision or the new one, whole.
func TestPowerCutWhileApplying(t *testing.T) {
	outcome := map[string]int{}
	for seed := range uint64(200) {
		disk := vfs.NewCrashable(seed)
		boot(t, disk, good)
		disk = disk.Crash()
		b := running(t, disk, good)
		cut(disk, int(seed%12))
		must(t, b.apply(next))
		kept := b.Keep() == nil
		disk.SetHook(nil)
		r, _ := boot(t, disk.Crash(), good)
		if len(r.Report.Errors) > 0 || kept && r.Profile.Site != "shop-13" {
			t.Fatalf("seed %d: kept %v, then %q with %q", seed, kept, r.Profile.Site, r.Report.Errors)
		}
		outcome[r.Profile.Site]++
	}
	if outcome["shop-12"] == 0 || outcome["shop-13"] == 0 {
		t.Errorf("got only %v: the cuts did not fall on both sides", outcome)
	}
}

// The boot partition's newer profile wins however often the power fails while
// that is noted.
func TestPowerCutWhileSuperseded(t *testing.T) {
	for seed := range uint64(200) {
		disk := vfs.NewCrashable(seed)
		running(t, disk, good).change(t, next)
		disk = disk.Crash()
		cut(disk, int(seed%12))
		boot(t, disk, "version: 1\nsite: shop-14\n")
		disk.SetHook(nil)
		disk = disk.Crash()
		r, _ := boot(t, disk, "version: 1\nsite: shop-14\n")
		expect(t, r, "shop-14", "boot partition")
		r, _ = boot(t, disk, "")
		expect(t, r, "shop-14", "last good")
	}
}

// cut has the disk fail after so many operations.
func cut(disk *vfs.Crashable, after int) {
	ops := 0
	disk.SetHook(func(vfs.Op, string) error {
		if ops++; ops > after {
			return errors.New("the power is gone")
		}
		return nil
	})
}

// What cannot be read of an applied profile is said, and the box goes by the
// boot partition's.
func TestDamagedApplied(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "not readable",
		`{"version":2}`:                    "version 2, this release knows 1",
		`{"version":1}`:                    "profiles of 0 and 0 bytes",
		`{"version":1,"profile":"c2l0ZQ"}`: "not readable",
	} {
		state := vfs.NewCrashable(1)
		must(t, vfs.WriteWhole(state, appliedFile, []byte(text)))
		r, _ := boot(t, state, good)
		expect(t, r, "shop-12", "boot partition")
		if all := strings.Join(r.Report.Errors, "\n"); !strings.Contains(all, want) {
			t.Errorf("%q: got %q, want %q", text, all, want)
		}
	}
}

// A later release may refuse what this one took.
func TestAppliedIsRefusedLater(t *testing.T) {
	state := vfs.NewCrashable(1)
	running(t, state, good).change(t, next)
	r, err := Load(Config{State: state, Log: slog.New(slog.DiscardHandler), Boot: func() ([]byte, error) { return []byte(good), nil },
		parse: func(file string, text []byte) (*site.Profile, error) {
			if strings.Contains(file, appliedFile) {
				text = []byte(bad)
			}
			return site.Parse(file, text)
		}})
	must(t, err)
	expect(t, r, "shop-12", "boot partition")
	if all := strings.Join(r.Report.Errors, "\n"); !strings.Contains(all, "the applied site profile is refused: /state/site/applied.json:2:7: site: ") {
		t.Errorf("got %q", all)
	}
	r, _ = boot(t, state, good)
	expect(t, r, "shop-13", "applied") // and the one after may take it again
}

func FuzzApplied(f *testing.F) {
	text, err := json.Marshal(applied{Version: appliedVersion, Over: digest([]byte(good)), Profile: []byte(next), Before: []byte(good)})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(text), "", "null", `{"version":1}`, `{"version":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if rec, err := parseApplied(text); err == nil && (rec == nil || len(rec.Profile) == 0 || len(rec.Profile) > site.MaxSize) {
			t.Errorf("got %+v", rec)
		}
	})
}

// What changes decides who is started anew.
func TestAffected(t *testing.T) {
	parse := func(more string) *site.Profile {
		p, err := site.Parse(layout.ESPSite, []byte("version: 1\nsite: shop\nconnect:\n  mqtt: {routes: [{filter: '#', topic: mqtt}]}\n"+more))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	was := parse("")
	for more, want := range map[string]string{
		"": "",
		"  modbus: [{name: press, address: '192.0.2.7:502', points: [{name: a, address: 'holding:0', type: uint16}]}]\n": "",
		"  http: [{name: web, listen: ':8082', posts: [{path: /o, topic: o}]}]\n":                                        "connect",
		"links: [{name: up, bootstrap: ['kafka:9092'], topics: [mqtt]}]\n":                                               "replicator",
		"network: {dns: [192.0.2.1]}\n":    "replicator",
		"telemetry: {}\n":                  "console",
		"update: {trial_minutes: 20}\n":    "updater",
		"broker: {topics: [{name: a}]}\n":  "broker",
		"broker: {listen: ':9093'}\n":      "broker connect console mqtt replicator updater",
		"description: the one at the mall": "",
	} {
		if got := strings.Join(Affected(was, parse(more)), " "); got != want {
			t.Errorf("%q: got %q started anew, want %q", more, got, want)
		}
	}
	clock := parse("hardware: {clock: {chip: ds3231, bus: i2c}}\n")
	if got := NextStart(was, clock); !slices.Equal(got, []string{"hardware"}) {
		t.Errorf("a hardware clock: got %q", got)
	}
}
