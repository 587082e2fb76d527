package updater

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// plan is what the schedule remembers between two turns.
type plan struct {
	looked  time.Time // at init
	refresh time.Time // when the next one is due
	act     time.Time // prepare and install wait until then, after an error
	failed  int       // errors in a row
	sticks  string    // that were plugged in
}

// turn does what there is to do by itself.
func (u *Updater) turn(ctx context.Context) {
	now := u.now()
	sticks := u.sticks(ctx)
	plugged := sticks != u.plan.sticks && sticks != ""
	u.plan.sticks = sticks
	if plugged { // what went wrong before says nothing of it, and somebody stands there
		u.plan.act, u.plan.failed = time.Time{}, 0
	}
	if now.Sub(u.plan.looked) < u.pace.look && !plugged && now.Before(u.plan.refresh) {
		return
	}
	defer func() {
		if u.sticks(ctx) == "" { // pulled out meanwhile, and perhaps put in again before the next look
			u.plan.sticks = ""
		}
	}()
	u.plan.looked = now
	if err := u.look(ctx); err != nil {
		if ctx.Err() == nil {
			u.set(func(v *manifest.Update) { v.Problem = err.Error() })
		}
		return
	}
	u.tell()
	if u.slots.Trial != nil {
		u.trial(ctx)
		return
	}
	u.judge(ctx)
	if u.cfg.Site.Auto == site.AutoOff || len(u.cfg.Root) == 0 || len(u.http) == 0 {
		u.plan.refresh = now.Add(u.pace.refresh)
		return
	}
	if plugged || !now.Before(u.plan.refresh) {
		u.scheduledRefresh(ctx, now)
	}
	if ctx.Err() == nil && !now.Before(u.plan.act) {
		u.advance(ctx, now)
	}
}

func (u *Updater) scheduledRefresh(ctx context.Context, now time.Time) {
	err := u.settle(ctx, "refresh", u.refresh(ctx))
	if err == nil {
		u.plan.failed = 0
		// A minute in ten early or late: boxes that were switched on together
		// do not ask together.
		u.plan.refresh = now.Add(u.pace.refresh*9/10 + rand.N(u.pace.refresh/5))
		return
	}
	u.plan.failed++
	u.plan.refresh = now.Add(kafka.Backoff(u.plan.failed, u.pace.refresh/60, u.pace.refresh))
}

// advance takes the next step that the profile allows.
func (u *Updater) advance(ctx context.Context, now time.Time) {
	what, do := "", (func(context.Context) error)(nil)
	install, waits := u.mayInstall(now)
	ours := u.prepared() && (u.choice.next == nil || u.choice.next.Version == u.st.Prepared.Version)
	switch {
	case u.slots.Pending != nil && install:
		what, do = "reboot", u.reboot
	case u.slots.Pending != nil:
	case ours && install:
		what, do = "activate", func(ctx context.Context) error {
			if err := u.activate(ctx); err != nil {
				return err
			}
			return u.reboot(ctx)
		}
	case !ours && u.choice.next != nil:
		what, do, waits = "prepare", u.prepare, ""
	}
	if !ours && u.slots.Pending == nil {
		waits = ""
	}
	u.set(func(v *manifest.Update) { v.Waits = waits })
	if do == nil {
		return
	}
	if u.settle(ctx, what, do(ctx)) != nil {
		u.plan.failed++
		u.plan.act = u.now().Add(kafka.Backoff(u.plan.failed, u.pace.refresh/12, u.pace.refresh))
		return
	}
	u.plan.failed = 0
	u.plan.looked = time.Time{} // at once: the next step may be due
}

// mayInstall says whether the box may switch by itself now, else why not.
func (u *Updater) mayInstall(now time.Time) (ok bool, waits string) {
	switch c := u.box.Clock; {
	case u.cfg.Site.Auto != site.AutoInstall:
		return false, "for somebody to activate it: update.auto is " + u.cfg.Site.Auto
	case u.window == nil:
		return true, ""
	case !c.Synchronised && c.Source == "floor":
		return false, "for the clock: what hour it is, nobody knows"
	case !u.window.Contains(now.In(u.zone)):
		return false, "for the quiet hours, " + u.windowText()
	}
	return true, ""
}
