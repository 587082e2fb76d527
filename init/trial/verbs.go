package trial

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/verity"
	"github.com/waysideos/wayside/services/manifest"
)

// Activate has the loader try the prepared version at the next boot. It may be
// asked again.
func (k *Keeper) Activate(a manifest.Activate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.mayActivate(a); err != nil {
		return err
	}
	part, size, done, err := k.cfg.Other()
	if err != nil {
		return err
	}
	defer done()
	c, err := k.candidate(a, part, size)
	if err != nil {
		return err
	}
	// Known before the loader is: a boot of it then finds its story.
	before := k.rec.Pending
	k.rec.Pending = &Pending{Activate: a, From: k.cfg.Running, Asked: k.cfg.Now()}
	if err := k.save(); err != nil {
		k.rec.Pending = before
		return err
	}
	if err := k.cfg.Store.Try(c); err != nil {
		k.rec.Pending = nil
		return errors.Join(err, k.save())
	}
	k.cfg.Log.Info("update: version "+a.Version+" is tried at the next boot", "counter", a.Counter, "root", a.RootHash)
	return nil
}

func (k *Keeper) mayActivate(a manifest.Activate) error {
	switch {
	case k.trial:
		return refuse("version %s is on trial itself: commit or fail it first", k.cfg.Running.Version)
	case k.cfg.State == nil:
		return refuse("the state partition is not there: what comes of a trial could not be kept")
	case k.rec.Pending != nil && !same(k.rec.Pending.RootHash, a.RootHash):
		return refuse("version %s is activated already: cancel it first", k.rec.Pending.Version)
	case a.Counter < k.rec.Floor && !a.Downgrade:
		return refuse("version %s has the release counter %d, below %d that was committed: that needs a signed permission to go back", a.Version, a.Counter, k.rec.Floor)
	case same(a.RootHash, k.cfg.Running.RootHash):
		return refuse("version %s is the one that runs", a.Version)
	}
	for _, f := range k.rec.Failed {
		if f.Version == a.Version || same(f.RootHash, a.RootHash) {
			return refuse("version %s failed its trial on %s (%s: %s): ask for a retry first", a.Version, f.Time.Format(time.DateOnly), f.Check, f.Reason)
		}
	}
	return nil
}

// candidate reads the staged kernel image, and believes nothing that the image
// itself does not say.
func (k *Keeper) candidate(a manifest.Activate, part io.ReaderAt, size int64) (c slots.Candidate, err error) {
	head := make([]byte, manifest.StagedHeader)
	start := manifest.StagedOffset(size)
	if start <= 0 {
		return c, refuse("the other slot of %d bytes has no room for a staged kernel image", size)
	}
	if _, err := part.ReadAt(head, start); err != nil {
		return c, fmt.Errorf("read the staged kernel image: %w", err)
	}
	staged, err := manifest.DecodeStaged(head)
	if err != nil {
		return c, refuse("%v: prepare the version again", err)
	}
	c = slots.Candidate{
		Content: io.NewSectionReader(part, start+manifest.StagedHeader, staged.Length),
		Size:    staged.Length, SHA256: staged.SHA256, Now: k.cfg.Now(),
	}
	if c.Image, err = slots.ReadImage(c.Content); err != nil {
		return c, refuse("the staged kernel image %v", err)
	}
	im := c.Image
	for _, w := range []struct{ what, got, want string }{
		{"version", staged.Version, a.Version},
		{"counter", fmt.Sprint(staged.Counter), fmt.Sprint(a.Counter)},
		{"root", hex.EncodeToString(staged.RootHash[:]), a.RootHash},
		{"version", im.Version, a.Version},
		{"counter", fmt.Sprint(im.Counter), fmt.Sprint(a.Counter)},
		{"root", im.RootHash, a.RootHash},
		{"board", im.Board, k.cfg.Board},
		{"architecture", im.Arch, k.cfg.Arch},
	} {
		if !strings.EqualFold(w.got, w.want) {
			return c, refuse("the staged kernel image is for %s %q, want %q", w.what, w.got, w.want)
		}
	}
	if k.cfg.Signed && !im.Signed {
		return c, refuse("the staged kernel image is not signed, and the firmware starts nothing else")
	}
	return c, checkRoot(im, part, start)
}

// checkRoot looks at the top of the staged root's hash tree, which the image
// pins, and at its place. The updater has read all of it.
func checkRoot(im slots.Image, part io.ReaderAt, limit int64) error {
	pin, err := verity.ParsePin(im.RootHash, im.DataBlocks)
	if err != nil {
		return refuse("the staged kernel image's %v", err)
	}
	if _, err := verity.Check(io.NewSectionReader(part, 0, limit), pin); err != nil {
		return refuse("the other slot: %v: prepare the version again", err)
	}
	return nil
}

// Commit makes the version on trial the one that boots from now on.
func (k *Keeper) Commit(c manifest.Commit) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.sinking:
		return refuse("the trial has failed already")
	case !k.trial && same(k.rec.Committed.RootHash, k.cfg.Running.RootHash):
		return nil
	case !k.trial:
		return refuse("no trial runs")
	}
	for _, check := range c.Checks {
		if !check.OK {
			return refuse("check %s is not passed: %s", check.Name, check.Detail)
		}
	}
	if err := k.cfg.Store.Settle(slots.Good); err != nil {
		return err
	}
	k.cfg.Log.Info("update: version " + k.cfg.Running.Version + " committed")
	return k.commit(c.Checks)
}

// Fail ends the trial and starts the version before.
func (k *Keeper) Fail(f manifest.Fail) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.trial {
		return refuse("no trial runs")
	}
	if k.sinking {
		return nil
	}
	k.cfg.Log.Error("update: version "+k.cfg.Running.Version+" fails its trial", "check", f.Check, "reason", f.Reason)
	if k.rec.Pending != nil {
		k.rec.Pending.Verdict = &f
	}
	if t := k.trace(); t != nil {
		k.note(t) // saves the verdict; without it the loader counts, too
	}
	if err := k.cfg.Store.Settle(slots.Bad); err != nil {
		if errors.Is(err, slots.ErrNoOther) {
			k.trial = false
			k.problem(fmt.Errorf("version %s failed its trial and stays: %w", k.cfg.Running.Version, err))
		}
		return err
	}
	k.sinking = true
	k.cfg.Reboot("version " + k.cfg.Running.Version + " failed its trial: " + f.Reason)
	return nil
}

// Cancel takes an activation back.
func (k *Keeper) Cancel() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trial {
		return refuse("the trial runs: fail it instead")
	}
	if k.rec.Pending == nil {
		return nil
	}
	if err := k.cfg.Store.Settle(slots.Keep); err != nil {
		return err
	}
	k.rec.Pending = nil
	return k.save()
}

// Retry forgets that a version failed.
func (k *Keeper) Retry(r manifest.Retry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.rec.Failed)
	k.rec.Failed = slices.DeleteFunc(k.rec.Failed, func(f manifest.Outcome) bool { return f.Version == r.Version })
	if len(k.rec.Failed) == n {
		return refuse("version %q is not among those that failed", r.Version)
	}
	return k.save()
}

// GiveBack is called before an end that somebody asked for: it shall not count
// against the trial.
func (k *Keeper) GiveBack() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.trial || k.sinking {
		return nil
	}
	if p := k.rec.Pending; p != nil {
		if p.GivenBack >= maxGivenBack {
			return fmt.Errorf("version %s has asked to start over %d times: from now on it counts", p.Version, p.GivenBack)
		}
		p.GivenBack++
		if n := len(p.Boots); n > 0 {
			p.Boots[n-1].ResetCause = "asked for"
		}
		k.problem(k.save())
	}
	return k.cfg.Store.Settle(slots.Again)
}

// Slots is the state as GET /update shows it; the caller adds the devices.
func (k *Keeper) Slots() manifest.Slots {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := manifest.Slots{
		Running: manifest.Slot{Version: k.cfg.Running.Version, Counter: k.cfg.Running.Counter, RootHash: k.cfg.Running.RootHash},
		Last:    k.rec.Last, Failed: slices.Clone(k.rec.Failed), Floor: k.rec.Floor, FormatLevel: k.level, Problems: slices.Clone(k.problems),
	}
	if p := k.rec.Pending; p != nil && !k.trial {
		a := p.Activate
		s.Pending = &a
	}
	boot, err := k.cfg.Store.Look()
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
		boot = &slots.Boot{}
	}
	for _, e := range boot.Entries {
		s.Boot = append(s.Boot, manifest.BootEntry{File: e.File, Version: e.Image.Version, Size: e.Size, Counted: e.Counted, TriesLeft: e.Left})
	}
	if k.trial {
		left := time.Until(k.deadline)
		s.Trial = &manifest.Trial{Version: k.cfg.Running.Version, Remaining: left.Seconds(), Deadline: k.cfg.Now().Add(left)}
		if boot.Running != nil {
			s.Trial.TriesLeft, s.Trial.TriesDone = boot.Running.Left, boot.Running.Done
		}
	}
	return s
}
