package updater

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// busyFor is how long a verb waits for the one before.
const busyFor = 10 * time.Second

// serve answers on the API's socket until ctx ends; the channel gets the
// error that ended it, nil for ctx.
func (u *Updater) serve(ctx context.Context) <-chan error {
	ended := make(chan error, 1)
	if u.cfg.API == nil {
		go func() { <-ctx.Done(); ended <- nil }()
		return ended
	}
	s := &http.Server{
		Handler: u.handler(), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(u.log.Handler(), slog.LevelDebug),
	}
	go func() {
		stop := context.AfterFunc(ctx, func() { s.Close() })
		defer stop()
		err := s.Serve(u.cfg.API)
		if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		ended <- err
	}()
	return ended
}

func (u *Updater) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /update", func(w http.ResponseWriter, _ *http.Request) { u.answer(w, http.StatusOK) })
	verb := func(name string, do func(ctx context.Context, r *http.Request) error, wait bool) {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			u.verb(w, r, job{name, func(ctx context.Context) error { return do(ctx, r) }, make(chan error, 1)}, wait)
		})
	}
	plain := func(do func(context.Context) error) func(context.Context, *http.Request) error {
		return func(ctx context.Context, _ *http.Request) error { return do(ctx) }
	}
	verb("refresh", plain(u.refresh), true)
	verb("prepare", plain(u.prepare), false)
	verb("activate", plain(u.activate), true)
	verb("retry", func(ctx context.Context, r *http.Request) error { return u.retry(ctx, r.URL.Query().Get("version")) }, true)
	// A reboot waits for nothing: during a trial the worker is busy with it.
	mux.HandleFunc("POST /reboot", func(w http.ResponseWriter, r *http.Request) {
		if err := u.reboot(r.Context()); err != nil {
			refuse(w, err)
			return
		}
		u.answer(w, http.StatusAccepted)
	})
	mux.Handle("GET /repo/", http.StripPrefix("/repo", u.share()))
	mux.HandleFunc("GET /site", u.profile)
	all := http.NewServeMux()
	all.HandleFunc("POST /site", u.applyProfile) // a profile is larger than what else is asked
	all.Handle("/", http.MaxBytesHandler(mux, 4<<10))
	return all
}

// enqueue hands a job to the worker; who cannot wait for it is answered.
func (u *Updater) enqueue(w http.ResponseWriter, r *http.Request, j job) bool {
	patience := time.NewTimer(busyFor)
	defer patience.Stop()
	select {
	case u.jobs <- j:
		return true
	case <-patience.C:
		v := u.Update()
		what := v.Step
		if what == "" {
			what = "a version is on trial"
		}
		http.Error(w, fmt.Sprintf("the updater is busy: %s; ask again later", what), http.StatusServiceUnavailable)
	case <-r.Context().Done():
	}
	return false
}

// verb hands a job to the worker and answers when it is done or, for one that
// takes long, when it has begun.
func (u *Updater) verb(w http.ResponseWriter, r *http.Request, j job, wait bool) {
	if !u.enqueue(w, r, j) {
		return
	}
	if !wait {
		// What is wrong from the start is told at once.
		select {
		case err := <-j.done:
			if err != nil {
				refuse(w, err)
				return
			}
		case <-time.After(time.Second):
		}
		u.answer(w, http.StatusAccepted)
		return
	}
	select {
	case err := <-j.done:
		if err != nil {
			refuse(w, err)
			return
		}
		u.answer(w, http.StatusOK)
	case <-r.Context().Done():
	}
}

func refuse(w http.ResponseWriter, err error) { http.Error(w, err.Error(), http.StatusConflict) }

func (u *Updater) answer(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(u.Update())
}

const serviceName = "updater"

// Status is the updater's report. It is not OK when an update failed and when
// a source cannot be believed; one that cannot be reached is no fault of the
// box.
func (u *Updater) Status() manifest.Report {
	v := u.Update()
	r := manifest.Report{Name: serviceName, OK: u.serving.Load(), Summary: summary(v)}
	for _, p := range u.problems {
		r.Facts = append(r.Facts, manifest.Fact{Name: "profile", Value: p})
	}
	for _, s := range v.Sources {
		say := "answered " + s.Checked.Format("2006-01-02 15:04 UTC")
		if !s.OK {
			say = s.Error
		}
		r.Facts = append(r.Facts, manifest.Fact{Name: "source " + s.Name, Value: say})
	}
	return r
}

// summary is one line for the technician.
func summary(v manifest.Update) string {
	name := func(r *manifest.UpdateRelease) string {
		if r == nil {
			return "a release"
		}
		return r.Version
	}
	switch {
	case v.Phase == manifest.UpdateTrial:
		return v.Running + " is on trial"
	case v.Step != "" && v.Total > 0:
		return fmt.Sprintf("%s, %d %%", v.Step, v.Done*100/v.Total)
	case v.Step != "":
		return v.Step
	case v.Phase == manifest.UpdatePending:
		return name(v.Prepared) + " starts at the next reboot"
	case v.Phase == manifest.UpdatePrepared && v.Waits != "":
		return name(v.Prepared) + " is prepared and waits " + v.Waits
	case v.Phase == manifest.UpdatePrepared:
		return name(v.Prepared) + " is prepared"
	case v.Phase == manifest.UpdateAvailable:
		return name(v.Available) + " is available"
	case v.Problem != "":
		return "no update known: " + firstLine(v.Problem)
	case len(v.Sources) == 0:
		return "no update source was asked yet"
	}
	return "nothing newer than " + v.Running
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}
