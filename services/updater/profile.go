package updater

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/updater/gate"
)

// profile answers GET /site: which site profile is in force. Who gets here over
// the network has reached the box, which a changed network waits for.
func (u *Updater) profile(w http.ResponseWriter, r *http.Request) {
	if u.cfg.Init == nil {
		refuse(w, errNoInit)
		return
	}
	now := time.Now()
	u.reached.Store(&now)
	u.answerProfile(w, r, http.StatusOK)
}

func (u *Updater) answerProfile(w http.ResponseWriter, r *http.Request, code int) {
	box, err := u.cfg.Init.Box(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(box.Profile)
}

// applyProfile answers POST /site?file=NAME, whose body is a site profile, and
// POST /site?back=true: the one that was in force before. What is wrong with a
// profile is a list of site.FieldError, with status 422. The answer comes when
// the profile is on trial.
func (u *Updater) applyProfile(w http.ResponseWriter, r *http.Request) {
	if u.cfg.Init == nil {
		refuse(w, errNoInit)
		return
	}
	want := manifest.ApplyProfile{File: r.URL.Query().Get("file"), Back: r.URL.Query().Get("back") == "true"}
	if !want.Back {
		var err error
		if want.Text, err = io.ReadAll(http.MaxBytesReader(w, r.Body, site.MaxSize+1)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var bad site.Errors
		if _, err := site.Parse(want.File, want.Text); errors.As(err, &bad) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(bad)
			return
		}
	}
	begun := make(chan error, 1)
	if !u.enqueue(w, r, job{"site profile", func(ctx context.Context) error { return u.tryProfile(ctx, want, begun) }, make(chan error, 1)}) {
		return
	}
	select {
	case err := <-begun:
		if err != nil {
			refuse(w, err)
			return
		}
		u.answerProfile(w, r, http.StatusAccepted)
	case <-r.Context().Done():
	}
}

// tryProfile has the box run by another profile and judges that as it judges a
// new version. What comes of it is init's to tell; the error is only that of ctx.
func (u *Updater) tryProfile(ctx context.Context, want manifest.ApplyProfile, begun chan<- error) error {
	was := u.site()
	base, err := gate.Take(ctx, u.probe())
	if err == nil {
		err = u.cfg.Init.Ask(ctx, "/site/apply", want)
	}
	var box manifest.Box
	if err == nil {
		box, err = u.cfg.Init.Box(ctx)
	}
	if err == nil && box.Profile.Change == nil {
		err = errors.New("init says nothing of the change")
	}
	since := time.Now() // not by the change, whose time is not monotonic: the clock may be set meanwhile
	begun <- err
	if err != nil {
		return nil
	}
	change := box.Profile.Change
	broker := u.expect(&base, change, was)
	g := &gate.Gate{
		Probe: boxProbe{u, broker}, Baseline: base, Restarts: restarts(box), Settle: u.pace.profile, Every: u.pace.gate, Log: u.log,
		Limit: max(time.Duration(change.Remaining*float64(time.Second))-u.pace.margin, 0),
		Seen:  func([]manifest.Check) { u.turned.Store(u.now().UnixNano()) },
	}
	end := time.Now().Add(g.Limit)
	v, err := g.Run(ctx)
	if err != nil {
		return err
	}
	if v.Good && change.Network && !u.waitReached(ctx, since, end) {
		v = gate.Verdict{Check: "network", Reason: "nobody has asked the status page for /site since the network changed"}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if v.Good {
		return u.insist(ctx, "/site/keep", nil)
	}
	return u.insist(ctx, "/site/back", manifest.Fail{Check: v.Check, Reason: v.Reason, Detail: v.Detail})
}

// restarts is how often each service was restarted by now: a box may have run
// for years.
func restarts(box manifest.Box) map[string]int {
	out := map[string]int{}
	for _, s := range box.Services {
		out[s.Name] = s.Restarts
	}
	return out
}

// expect leaves out of what has to be as before what the profile changes: what
// was started anew for it has to run, and links that it no longer has are not
// missed. It gives the address of the broker, which may have moved from where
// the profile before had it.
func (u *Updater) expect(base *gate.Baseline, change *manifest.ProfileChange, was *site.Profile) (broker []string) {
	base.Services = slices.DeleteFunc(base.Services, func(name string) bool { return slices.Contains(change.Services, name) })
	p := u.site()
	if p == nil {
		return u.cfg.Broker
	}
	base.Links = slices.DeleteFunc(base.Links, func(name string) bool {
		return !slices.ContainsFunc(p.Links, func(l site.Link) bool { return l.Name == name })
	})
	if was == nil || p.Broker.Listen == was.Broker.Listen {
		return u.cfg.Broker
	}
	return []string{p.Broker.Address()}
}

// site is the profile in force, nil if it cannot be read.
func (u *Updater) site() *site.Profile {
	text, err := os.ReadFile(u.cfg.SiteFile)
	if err != nil {
		return nil
	}
	p, err := site.Parse(u.cfg.SiteFile, text)
	if err != nil {
		return nil
	}
	return p
}

// waitReached waits until somebody has asked for the profile since it changed.
func (u *Updater) waitReached(ctx context.Context, since, end time.Time) bool {
	tick := time.NewTicker(u.pace.gate)
	defer tick.Stop()
	for at := u.reached.Load(); at == nil || at.Before(since); at = u.reached.Load() {
		u.turned.Store(u.now().UnixNano())
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
