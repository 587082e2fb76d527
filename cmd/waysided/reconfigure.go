package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/catalog"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// lookEvery is how often it is looked whether the profile has changed; HUP has
// it looked at once.
const lookEvery = 2 * time.Second

// connectors are the connect service whose profile may change.
type connectors struct {
	*connect.Service
	flags   connectFlags
	profile *site.Profile // in force
	seen    os.FileInfo   // of its file, from before it was read
	log     *slog.Logger
}

// newConnectors prepares those of a profile.
func newConnectors(f connectFlags, profile *site.Profile, log *slog.Logger, more ...func(*connect.Config)) (*connectors, error) {
	instances, err := catalog.Instances(profile, "")
	if err != nil {
		return nil, err
	}
	cfg := connect.Config{Instances: instances, Site: profile.Site, Broker: boxBroker(f.broker, profile), Secrets: f.secrets, Log: log}
	if f.data != "" {
		cfg.FS = vfs.OS(f.data)
	}
	for _, m := range more {
		m(&cfg)
	}
	svc, err := connect.New(cfg)
	return &connectors{Service: svc, flags: f, profile: profile, log: log}, err
}

// Run is the service's, with the profile read again when its file changes.
func (c *connectors) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-c.Ready():
			watchFile(ctx, c.flags.site, c.seen, c.reconfigure)
		case <-ctx.Done():
		}
	})
	return c.Service.Run(ctx)
}

// watchFile calls changed after each change of a file since it was seen, and
// when HUP comes.
func watchFile(ctx context.Context, file string, seen os.FileInfo, changed func()) {
	if file == "" {
		return
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for told := false; ; {
		now, err := os.Stat(file) // an error: it is being replaced
		if err == nil && (told || seen == nil || !os.SameFile(seen, now) || !seen.ModTime().Equal(now.ModTime()) || seen.Size() != now.Size()) {
			seen = now
			changed()
		}
		told = false
		select {
		case <-ctx.Done():
			return
		case <-hup:
			told = true
		case <-t.C:
		}
	}
}

// reconfigure puts the connectors of the changed profile into force, or says
// why not.
func (c *connectors) reconfigure() {
	if err := c.tryReconfigure(); err != nil {
		c.log.Error("the changed profile is not in force, connectors go on as they were", "err", err)
		c.Refuse(err)
	}
}

func (c *connectors) tryReconfigure() error {
	profile, err := c.flags.profile()
	if err != nil {
		return err
	}
	if profile.Site != c.profile.Site || !slices.Equal(boxBroker(c.flags.broker, profile), boxBroker(c.flags.broker, c.profile)) {
		return errors.New("the box's name or its broker changes: restart the box, or this service")
	}
	instances, err := catalog.Instances(profile, "")
	if err != nil {
		return err
	}
	if err := c.Reconfigure(instances); err != nil {
		return err
	}
	c.profile = profile
	return nil
}

// waiting is the connect service without a connector.
type waiting struct {
	*idle
	flags connectFlags
	seen  os.FileInfo
	log   *slog.Logger
}

// Run ends when the profile gets connectors: the supervisor starts the service
// anew.
func (w *waiting) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		watchFile(ctx, w.flags.site, w.seen, func() {
			switch profile, err := w.flags.profile(); {
			case err != nil:
				w.log.Error("the changed profile is not in force", "err", err)
			case len(profile.Connect.Instances()) > 0:
				cancel(errors.New("the profile has connectors now: start again"))
			}
		})
	})
	if err := w.idle.Run(ctx); err != nil {
		return err
	}
	return context.Cause(ctx)
}
