package updater

import (
	"context"
	"errors"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/gate"
)

// trial lets the gate decide on the running version. It returns when that is
// done, or ctx has ended: then the next start of the service begins anew.
func (u *Updater) trial(ctx context.Context) {
	t := u.slots.Trial
	left := time.Duration(t.Remaining * float64(time.Second))
	g := &gate.Gate{
		Probe: u.probe(), Settle: time.Duration(u.cfg.Site.SettleSeconds) * time.Second,
		Limit: max(left-u.pace.margin, left/2), Every: u.pace.gate, Log: u.log,
		Seen: func(checks []manifest.Check) {
			u.turned.Store(u.now().UnixNano())
			u.set(func(v *manifest.Update) { v.Checks = checks })
		},
	}
	if b := u.st.Baseline; b != nil && u.st.Prepared != nil && u.st.Prepared.Version == t.Version {
		g.Baseline = *b
	} else {
		u.log.Warn("nothing is remembered of how the box did before the update; services and broker decide")
	}
	u.log.Info("a version is on trial", "version", t.Version, "limit", g.Limit, "settle", g.Settle)
	v, err := g.Run(ctx)
	if err != nil {
		return
	}
	if v.Good {
		u.log.Info("the trial went well, the version is kept", "version", t.Version)
		_ = u.settle(ctx, "commit", u.insist(ctx, "/update/commit", manifest.Commit{Checks: v.Checks}))
	} else {
		u.log.Error("the trial failed, the box goes back", "version", t.Version, "check", v.Check, "reason", v.Reason)
		_ = u.settle(ctx, "fail", u.insist(ctx, "/update/fail", manifest.Fail{Check: v.Check, Reason: v.Reason, Detail: v.Detail}))
	}
	if u.look(ctx) == nil {
		u.tell()
	}
}

// insist asks init until it answers; if it never does, init's own deadline
// ends the trial.
func (u *Updater) insist(ctx context.Context, path string, body any) error {
	for {
		err := u.cfg.Init.Ask(ctx, path, body)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
			return err
		}
		u.log.Warn("init is asked again", "request", path, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(u.pace.gate):
		}
	}
}

// probe looks at this box.
func (u *Updater) probe() gate.Probe { return boxProbe{u, u.cfg.Broker} }

type boxProbe struct {
	u      *Updater
	broker []string
}

func (p boxProbe) Box(ctx context.Context) (manifest.Box, error) { return p.u.cfg.Init.Box(ctx) }

func (p boxProbe) Report(ctx context.Context, name string) (manifest.Report, error) {
	if name == serviceName {
		return p.u.Status(), nil
	}
	return serviceReport(ctx, p.u.cfg.RunDir, name)
}

func (p boxProbe) Canary(ctx context.Context) error {
	return gate.Canary{Broker: p.broker, Log: p.u.log}.Fly(ctx)
}

func (p boxProbe) Source(ctx context.Context) error { return p.u.reachable(ctx) }
