package main

import (
	"context"
	"net"
	"sync"

	"github.com/waysideos/wayside/services/manifest"
)

// idle is a service that the profile has no work for: ready, healthy, and
// saying why it does nothing. Who dials one of its listeners is hung up on at
// once: init holds the socket open, and would keep a client waiting for ever.
type idle struct {
	report    manifest.Report
	listeners []net.Listener
	ready     chan struct{}
}

func newIdle(name, why string, listeners []net.Listener) *idle {
	ready := make(chan struct{})
	close(ready)
	return &idle{report: manifest.Report{Name: name, OK: true, Summary: why}, listeners: listeners, ready: ready}
}

func (i *idle) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range i.listeners {
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		})
	}
	<-ctx.Done()
	for _, l := range i.listeners {
		l.Close()
	}
	wg.Wait()
	return nil
}

func (i *idle) Ready() <-chan struct{}  { return i.ready }
func (i *idle) Healthy() error          { return nil }
func (i *idle) Status() manifest.Report { return i.report }
