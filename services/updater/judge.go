package updater

import (
	"context"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/gate"
)

// What a failed trial is blamed on.
const (
	blameVersion = "version"
	blameWorld   = "world"

	// maxWorldRetries is how often a version is tried again by itself after
	// the world was to blame.
	maxWorldRetries = 3
)

// judge looks into the latest failed trial. A check of the outside world that
// failed under the new version says something of it only if the old one, back
// again, does better: it gets some minutes to show that.
func (u *Updater) judge(ctx context.Context) {
	last := u.slots.Last
	if last == nil || last.Committed {
		return
	}
	key := uint64(last.Time.UnixNano())
	if key != u.st.Judged {
		u.st.Judged, u.st.Blame, u.st.Closed = key, "", false
	}
	if u.st.Closed {
		return
	}
	before := u.st.Blame
	reach := gate.Outside(last.Check) && u.outside(ctx, last.Check)
	if ctx.Err() != nil {
		return
	}
	u.st.Blame = blame(last.Check, before, reach, u.now().Sub(u.started), u.pace.blame)
	u.st.Closed = u.st.Blame == blameVersion || u.st.Blame == blameWorld && reach && u.worldIsBack(ctx, last)
	if u.st.Blame != before || u.st.Closed {
		u.log.Warn("a failed trial was looked into", "version", last.Version, "check", last.Check, "blame", u.st.Blame)
		if err := u.st.save(u.cfg.State); err != nil {
			u.log.Error("the finding cannot be kept", "error", err)
		}
		u.tell()
	}
}

// blame judges a failed trial by the check that decided, whether the version
// before reaches what the check was about, and since when that one runs.
func blame(check, before string, reach bool, running, patience time.Duration) string {
	switch {
	case !gate.Outside(check):
		return blameVersion
	case before == blameWorld:
		return blameWorld
	case reach:
		return blameVersion
	case running < patience:
		return ""
	}
	return blameWorld
}

// worldIsBack lets a version be tried again for which the world was to blame,
// and says whether the matter is closed.
func (u *Updater) worldIsBack(ctx context.Context, last *manifest.Outcome) bool {
	if u.st.WorldRetries >= maxWorldRetries {
		return true
	}
	if err := u.cfg.Init.Ask(ctx, "/update/retry", manifest.Retry{Version: last.Version}); err != nil {
		u.log.Warn("a version cannot be made to be tried again", "version", last.Version, "error", err)
		return false
	}
	u.st.WorldRetries++
	u.log.Info("what the trial lacked is there again, the version may be tried again", "version", last.Version, "check", last.Check)
	u.plan.looked = time.Time{}
	return true
}

// outside says whether what a check is about is reached now.
func (u *Updater) outside(ctx context.Context, check string) bool {
	if name, ok := strings.CutPrefix(check, gate.CheckReach); ok {
		r, err := serviceReport(ctx, u.cfg.RunDir, name)
		return err == nil && r.OK
	}
	name, uplink := strings.CutPrefix(check, gate.CheckLink)
	if !uplink {
		return u.reachable(ctx) == nil
	}
	for _, s := range u.box.Services {
		r, err := serviceReport(ctx, u.cfg.RunDir, s.Name)
		if err != nil {
			continue
		}
		for _, l := range r.Links {
			if l.Name == name {
				return l.Up
			}
		}
	}
	return false
}
