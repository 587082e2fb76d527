package updater

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/gate"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/stage"
	"github.com/waysideos/wayside/services/updater/trust"
)

// job is a verb that somebody asked for.
type job struct {
	verb string
	do   func(ctx context.Context) error
	done chan error // of capacity 1
}

var (
	errNoInit  = errors.New("there is no init here to ask: updates are for a box")
	errNoRoot  = errors.New("this release carries no update keys: it takes no updates")
	errOnTrial = errors.New("the running version is on trial; wait until it is kept or given up")
)

// look asks init what runs, and forgets what is over.
func (u *Updater) look(ctx context.Context) error {
	if u.cfg.Init == nil {
		return errNoInit
	}
	slots, err := u.cfg.Init.Slots(ctx)
	if err != nil {
		return err
	}
	box, err := u.cfg.Init.Box(ctx)
	if err != nil {
		return err
	}
	u.slots, u.box = slots, box
	if p := u.st.Prepared; p != nil && slots.Trial == nil && p.Version == slots.Running.Version {
		u.st.Prepared, u.st.Baseline, u.st.Progress = nil, nil, stage.Progress{}
		if err := u.st.save(u.cfg.State); err != nil {
			return err
		}
	}
	u.choose()
	return nil
}

// choose judges the catalog anew.
func (u *Updater) choose() {
	u.choice = choice{}
	if u.catalog != nil {
		u.choice = choose(u.catalog.Releases, u.slots.Running, u.box.Board, u.cfg.Arch, u.refusal)
	}
}

func (u *Updater) trustConfig() trust.Config {
	now := u.now()
	// Never the hardware clock's word alone: see docs/updates.md.
	if c := u.box.Clock; !c.Synchronised && !c.Floor.IsZero() {
		now = c.Floor
	}
	return trust.Config{FS: u.cfg.State, Root: u.cfg.Root, Now: now, Log: u.log}
}

// refresh asks every source for what there is. It fails when none can be
// believed.
func (u *Updater) refresh(ctx context.Context) error {
	if len(u.cfg.Root) == 0 {
		return errNoRoot
	}
	if err := u.look(ctx); err != nil {
		return err
	}
	u.step("asking the update sources", 0, 0)
	var told []manifest.UpdateSource
	var errs []error
	found := false
	for _, s := range u.sources() {
		steady := &source.Steady{Source: s, Patience: u.pace.quick, Log: u.log, Got: u.m.got}
		c, err := trust.Refresh(ctx, u.trustConfig(), steady)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		say := manifest.UpdateSource{Name: s.name, OK: err == nil, Checked: u.now().UTC()}
		if err != nil {
			say.Error = err.Error()
			errs = append(errs, err)
		} else {
			u.catalog, found = c, true
		}
		told = append(told, say)
	}
	u.set(func(v *manifest.Update) { v.Sources = told })
	if !found {
		if len(told) == 0 {
			return errors.New("there is no update source: the profile names none, or no stick is plugged in")
		}
		return errors.Join(errs...)
	}
	for _, p := range u.catalog.Problems {
		u.log.Warn("a release of the repository is passed over", "reason", p)
	}
	u.choose()
	return nil
}

// prepare writes the newest release that fits the box into the other slot.
func (u *Updater) prepare(ctx context.Context) error {
	if err := u.look(ctx); err != nil {
		return err
	}
	if err := u.known(); err != nil {
		return err
	}
	for tried := ""; ; {
		next := u.choice.next
		switch {
		case u.slots.Trial != nil:
			return errOnTrial // the other slot is the way back
		case next == nil:
			return u.nothing()
		case u.slots.Pending != nil && u.slots.Pending.Version == next.Version:
			return nil
		case u.slots.Pending != nil:
			if err := u.cfg.Init.Ask(ctx, "/update/cancel", nil); err != nil {
				return fmt.Errorf("take back the update to %s, which was to start next: %w", u.slots.Pending.Version, err)
			}
			u.slots.Pending = nil
		}
		err := u.prepareOne(ctx, *next)
		if !errors.Is(err, errUnfit) || next.Version == tried {
			return err
		}
		tried = next.Version // what remains is older, or nothing
	}
}

// prepareOne writes a release into the other slot and sees whether it fits.
func (u *Updater) prepareOne(ctx context.Context, next release.Target) error {
	u.set(func(v *manifest.Update) { v.Phase = manifest.UpdatePreparing })
	defer u.tell()
	if err := u.stage(ctx, next); err != nil {
		return err
	}
	if !reflect.DeepEqual(u.st.Prepared, &next) { // it was there, and is published under other conditions now
		u.st.Prepared = &next
		if err := u.st.save(u.cfg.State); err != nil {
			return err
		}
	}
	return u.fits(next)
}

func (u *Updater) nothing() error {
	if len(u.choice.refused) > 0 {
		r := u.choice.refused[0]
		return fmt.Errorf("release %s may not be installed: %s", r.Name, r.Value)
	}
	return errors.New("there is no newer release; refresh looks for one")
}

// known has a catalog, if only the one kept.
func (u *Updater) known() error {
	if len(u.cfg.Root) == 0 {
		return errNoRoot
	}
	if u.catalog != nil {
		return nil
	}
	c, err := trust.Stored(u.trustConfig())
	if err != nil {
		return fmt.Errorf("refresh first: %w", err)
	}
	u.catalog = c
	u.choose()
	return nil
}

// stage tries the sources in turn; each goes on where the one before stopped.
func (u *Updater) stage(ctx context.Context, t release.Target) error {
	uki, ok := u.catalog.File(t, release.TargetUKI)
	if !ok {
		return fmt.Errorf("release %s has no kernel image in the signed metadata", t.Version)
	}
	slot, err := stage.OpenSlot(u.cfg.Dev, node(u.slots.Other))
	if err != nil {
		return err
	}
	defer slot.Close()
	if err := stage.Check(t, uki, slot.Size); err != nil {
		return err
	}
	have, done := u.running()
	defer done()
	var errs []error
	for _, s := range u.sources() {
		content, err := u.content(s, t, uki, have)
		if err == nil {
			j := &stage.Job{Target: t, UKI: uki, Content: content, Slot: slot, Step: u.step, Log: u.log,
				Save: func(p stage.Progress) error {
					u.st.Progress, u.st.Prepared = p, &t
					return u.st.save(u.cfg.State)
				}}
			err = j.Run(ctx, u.st.Progress)
		}
		if err == nil {
			u.log.Info("a release is prepared", "version", t.Version, "source", s.name)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		errs = append(errs, err)
		if source.KindOf(err) == "" && !errors.Is(err, stage.ErrContent) {
			break // the slot's or the disk's trouble, not the source's
		}
		u.log.Warn("the release did not come whole from a source", "source", s.name, "error", err)
	}
	if len(errs) == 0 {
		return errors.New("there is no update source to fetch from")
	}
	return errors.Join(errs...)
}

func (u *Updater) step(what string, done, total int64) {
	u.turned.Store(u.now().UnixNano())
	u.set(func(v *manifest.Update) { v.Step, v.Done, v.Total = what, done, total })
}

// activate has init start the prepared release at the next reboot.
func (u *Updater) activate(ctx context.Context) error {
	if err := u.look(ctx); err != nil {
		return err
	}
	p := u.st.Prepared
	switch {
	case u.slots.Trial != nil:
		return errOnTrial
	case !u.whole():
		return errors.New("no release is prepared")
	case u.slots.Pending != nil && u.slots.Pending.Version == p.Version:
		return nil
	}
	if why := u.refusal(p); why != "" {
		return fmt.Errorf("release %s may not be installed: %s", p.Version, why)
	}
	if err := u.fits(*p); err != nil {
		return err
	}
	base, err := gate.Take(ctx, u.probe())
	if err != nil {
		return fmt.Errorf("note how the box does before the update: %w", err)
	}
	u.st.Baseline = &base
	if err := u.st.save(u.cfg.State); err != nil {
		return err
	}
	err = u.cfg.Init.Ask(ctx, "/update/activate", manifest.Activate{
		Version: p.Version, Counter: p.Counter, RootHash: p.RootHash, Downgrade: p.Downgrade, BootLoader: p.BootLoader})
	if err != nil {
		return fmt.Errorf("activate %s: %w", p.Version, err)
	}
	u.log.Info("the prepared release starts at the next reboot", "version", p.Version)
	return u.look(ctx)
}

// reboot restarts the box, during a trial too.
func (u *Updater) reboot(ctx context.Context) error {
	if u.cfg.Init == nil {
		return errNoInit
	}
	return u.cfg.Init.Ask(ctx, "/reboot", nil)
}

// retry makes a version that failed, or was found not to fit, be forgotten; ""
// is the latest that failed.
func (u *Updater) retry(ctx context.Context, version string) error {
	if err := u.look(ctx); err != nil {
		return err
	}
	if n := len(u.slots.Failed); version == "" && n > 0 {
		version = u.slots.Failed[n-1].Version
	}
	before := len(u.st.Lacking)
	u.st.Lacking = slices.DeleteFunc(u.st.Lacking, func(l lacking) bool { return version == "" || l.Version == version })
	failed := slices.ContainsFunc(u.slots.Failed, func(o manifest.Outcome) bool { return o.Version == version })
	switch {
	case len(u.st.Lacking) < before && !failed: // it was never started, so init knows nothing of it
		if err := u.st.save(u.cfg.State); err != nil {
			return err
		}
		return u.look(ctx)
	case version == "":
		return errors.New("no version has failed on this box")
	}
	if err := u.cfg.Init.Ask(ctx, "/update/retry", manifest.Retry{Version: version}); err != nil {
		return err
	}
	u.st.WorldRetries = 0
	if err := u.st.save(u.cfg.State); err != nil {
		return err
	}
	return u.look(ctx)
}
