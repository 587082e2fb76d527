// Package profile decides which site profile is in force: of the good one that
// an engineer put on the boot partition and the one applied to the running box
// the later, else the last good one, else the built-in one. A bad profile never
// takes a running site down.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// lastGood is where the last good profile of the boot partition is kept, below
// the state partition.
const lastGood = "site/site.yaml"

// patience is what the boot partition's profile gets to be read and parsed. A
// dying disk, or a file made to be slow, must leave time for the last good.
const patience = 10 * time.Second

// Config says where profiles are read and kept.
type Config struct {
	// Boot reads layout.ESPSite from the boot partition; fs.ErrNotExist if
	// there is none.
	Boot  func() ([]byte, error)
	State vfs.FS // the state partition; nil if it could not be mounted
	Own   site.Own
	Log   *slog.Logger

	parse func(file string, text []byte) (*site.Profile, error) // site.ParseFor
}

// Result is the profile in force.
type Result struct {
	Profile *site.Profile
	Report  manifest.Profile
	Text    []byte // the profile as services read it, every default written out

	given []byte // the profile as it was written; nil for the built-in one
	over  string // digest of the boot partition's last good one; "" for none
}

// Load decides. It always gives a profile; what went wrong is in the report
// and in the log.
func Load(c Config) (*Result, error) {
	if c.parse == nil {
		c.parse = func(file string, text []byte) (*site.Profile, error) { return site.ParseFor(file, text, c.Own) }
	}
	r := &Result{}
	boot, text := c.fromBoot(&r.Report)
	applied, rec := c.fromApplied(&r.Report)
	if boot != nil && rec != nil && rec.Over != digest(text) {
		// Somebody has put another one on the boot partition since.
		applied = nil
		c.dropApplied(&r.Report)
	}
	if boot != nil {
		c.keep(text, &r.Report)
	}
	kept, keptText := boot, text
	if boot == nil {
		kept, keptText = c.fromState(&r.Report)
	}
	r.over = digest(keptText)
	switch {
	case applied != nil:
		r.take(applied, rec.Profile, "applied")
	case boot != nil:
		r.take(boot, text, "boot partition")
	case kept != nil:
		r.take(kept, keptText, "last good")
	default:
		r.take(site.DefaultFor(c.Own), nil, "built in")
	}
	var err error
	if r.Text, err = site.Marshal(r.Profile); err != nil {
		return nil, err
	}
	c.Log.Info("site profile: "+r.Report.Source, "site", r.Report.Site)
	return r, nil
}

func (r *Result) take(p *site.Profile, given []byte, source string) {
	r.Profile, r.given, r.Report.Site, r.Report.Source = p, given, p.Site, source
}

// fromBoot gives the boot partition's profile, if there is a good one, and
// its text.
func (c Config) fromBoot(report *manifest.Profile) (*site.Profile, []byte) {
	p, text, err := c.readBoot()
	if err == nil {
		return p, text
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var bad site.Errors
	if !errors.As(err, &bad) {
		c.complain(report, fmt.Sprintf("read %s from the boot partition: %v", layout.ESPSite, err))
		return nil, nil
	}
	report.Errors = append(report.Errors, bad.Lines()...)
	for _, e := range bad {
		// These words are promised to whoever watches the console.
		c.Log.Error(fmt.Sprintf("site profile rejected: %s:%d: %s: %s", e.File, e.Line, e.Field, e.Reason))
	}
	return nil, nil
}

// readBoot reads and parses.
func (c Config) readBoot() (*site.Profile, []byte, error) {
	var text []byte
	p, err := within(func() (p *site.Profile, err error) {
		if text, err = c.Boot(); err == nil {
			p, err = c.parse(layout.ESPSite, text)
		}
		return p, err
	})
	if err != nil {
		return nil, nil, err
	}
	return p, text, nil
}

// within calls do for as long as patience lasts. What hangs is left behind; a
// panic is an error: whoever can write the boot partition must not be able to
// keep the box from its network.
func within[T any](do func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil {
				a = answer{err: fmt.Errorf("panic: %v", r)}
			}
			done <- a
		}()
		a.value, a.err = do()
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-time.After(patience):
		var none T
		return none, fmt.Errorf("not done within %v", patience)
	}
}

// fromState gives the last good profile and its text, if there is one.
func (c Config) fromState(report *manifest.Profile) (*site.Profile, []byte) {
	text, err := read(c.State, lastGood, site.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		c.complain(report, fmt.Sprintf("read the last good site profile: %v", err))
		return nil, nil
	}
	// It was good once; a later release may see it otherwise.
	p, err := c.parse("/state/"+lastGood, text)
	if err != nil {
		c.complain(report, fmt.Sprintf("the last good site profile is refused: %v", err))
		return nil, nil
	}
	return p, text
}

// keep makes text the last good profile. A power cut leaves the old one or
// the new one, and an unchanged one is not written again.
func (c Config) keep(text []byte, report *manifest.Profile) {
	if c.State == nil {
		return
	}
	if old, err := read(c.State, lastGood, site.MaxSize); err == nil && string(old) == string(text) {
		return
	}
	if err := vfs.WriteWhole(c.State, lastGood, text); err != nil {
		c.complain(report, fmt.Sprintf("keep the site profile: %v", err))
	}
}

func (c Config) complain(report *manifest.Profile, what string) {
	report.Errors = append(report.Errors, what)
	c.Log.Error(what)
}

// read gives fs.ErrNotExist where fsys is nil: the state partition could not be
// mounted.
func read(fsys vfs.FS, name string, most int64) ([]byte, error) {
	if fsys == nil {
		return nil, fs.ErrNotExist
	}
	return vfs.ReadWhole(fsys, name, most)
}
