package profile

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	good = "version: 1\nsite: shop-12\n"
	next = "version: 1\nsite: shop-13\n"
	bad  = "version: 1\nsite: Shop 12\n"
)

// boot loads with the given file on the boot partition; "" for none.
func boot(t *testing.T, state vfs.FS, onESP string) (*Result, string) {
	t.Helper()
	var log bytes.Buffer
	r, err := Load(Config{
		State: state,
		Log:   slog.New(slog.NewTextHandler(&log, nil)),
		Boot: func() ([]byte, error) {
			if onESP == "" {
				return nil, fs.ErrNotExist
			}
			return []byte(onESP), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := site.Parse("effective", r.Text); err != nil || again.Site != r.Profile.Site {
		t.Errorf("the effective text does not read back: %v", err)
	}
	return r, log.String()
}

func expect(t *testing.T, r *Result, name, source string) {
	t.Helper()
	if r.Profile.Site != name || r.Report.Site != name || r.Report.Source != source {
		t.Errorf("got %q (report %+v), want %q from %q", r.Profile.Site, r.Report, name, source)
	}
}

func TestLifeOfAProfile(t *testing.T) {
	state := vfs.NewCrashable(1)
	r, _ := boot(t, state, "")
	expect(t, r, site.DefaultSite, "built in")
	r, _ = boot(t, state, good)
	expect(t, r, "shop-12", "boot partition")
	r, log := boot(t, state, bad)
	expect(t, r, "shop-12", "last good")
	if len(r.Report.Errors) == 0 || !strings.Contains(log, "site profile rejected: wayside/site.yaml:2: site: ") {
		t.Errorf("got errors %q and log %q, want the rejected field named", r.Report.Errors, log)
	}
	r, _ = boot(t, state, next)
	expect(t, r, "shop-13", "boot partition")
	r, _ = boot(t, state, "")
	expect(t, r, "shop-13", "last good")
}

// A box with a claim bears its name whichever profile is in force.
func TestOwn(t *testing.T) {
	state := vfs.NewCrashable(1)
	for _, c := range []struct{ onESP, source string }{
		{"", "built in"}, {good, "boot partition"}, {bad, "last good"}, {"version: 1\nsite: shops\nvariables: {till: \"1\"}\ndescription: till {var:till}\n", "boot partition"},
	} {
		r, err := Load(Config{State: state, Log: slog.New(slog.DiscardHandler), Own: site.Own{Site: "box-7", Variables: map[string]string{"till": "7"}},
			Boot: func() ([]byte, error) {
				if c.onESP == "" {
					return nil, fs.ErrNotExist
				}
				return []byte(c.onESP), nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, r, "box-7", c.source)
		if r.Profile.Network.Hostname != "box-7" || strings.Contains(c.onESP, "var") && r.Profile.Description != "till 7" {
			t.Errorf("%s: got host name %q and description %q", c.source, r.Profile.Network.Hostname, r.Profile.Description)
		}
	}
	r, _ := boot(t, state, good) // kept is the profile as it was written
	expect(t, r, "shop-12", "boot partition")
}

func TestWithoutState(t *testing.T) {
	r, _ := boot(t, nil, good)
	expect(t, r, "shop-12", "boot partition")
	r, _ = boot(t, nil, bad)
	expect(t, r, site.DefaultSite, "built in")
}

// A power cut while the new profile is kept leaves one that can be used.
func TestPowerCutWhileKeeping(t *testing.T) {
	outcome := map[string]bool{}
	for seed := range uint64(200) {
		disk := vfs.NewCrashable(seed)
		boot(t, disk, good)
		disk = disk.Crash()
		ops := 0
		stop := int(seed % 12)
		disk.SetHook(func(vfs.Op, string) error {
			if ops++; ops > stop {
				return errors.New("the power is gone")
			}
			return nil
		})
		boot(t, disk, next)
		disk.SetHook(nil)
		r, _ := boot(t, disk.Crash(), "")
		if r.Report.Source != "last good" || len(r.Report.Errors) > 0 {
			t.Fatalf("seed %d: got %+v, want a last good profile", seed, r.Report)
		}
		outcome[r.Profile.Site] = true
	}
	if !outcome["shop-12"] || !outcome["shop-13"] {
		t.Errorf("got only %v: the cuts did not fall on both sides", outcome)
	}
}

// Neither a disk that hangs nor a parser that breaks keeps the last good
// profile away.
func TestBootPartitionThatHangsOrBreaks(t *testing.T) {
	for name, hurt := range map[string]func(end <-chan struct{}, c *Config){
		"not done within 10s": func(end <-chan struct{}, c *Config) {
			c.Boot = func() ([]byte, error) { <-end; return nil, fs.ErrNotExist }
		},
		"panic: oops": func(_ <-chan struct{}, c *Config) {
			c.parse = func(file string, text []byte) (*site.Profile, error) {
				if file == layout.ESPSite {
					panic("oops")
				}
				return site.Parse(file, text)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				state := vfs.NewCrashable(1)
				boot(t, state, good)
				end := make(chan struct{})
				c := Config{State: state, Log: slog.New(slog.DiscardHandler), Boot: func() ([]byte, error) { return []byte(next), nil }}
				hurt(end, &c)
				r, err := Load(c)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, r, "shop-12", "last good")
				if got := strings.Join(r.Report.Errors, "\n"); !strings.Contains(got, name) {
					t.Errorf("got errors %q, want %q among them", got, name)
				}
				close(end)
				synctest.Wait()
			})
		})
	}
}

func TestUnreadableBootPartition(t *testing.T) {
	r, err := Load(Config{
		Log:  slog.New(slog.DiscardHandler),
		Boot: func() ([]byte, error) { return nil, errors.New("bad sector") },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Report.Errors) != 1 || !strings.Contains(r.Report.Errors[0], "bad sector") {
		t.Errorf("got %q, want the read error", r.Report.Errors)
	}
}
