package connect

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/kafka"
)

// Pauses before Run is called again.
const (
	pauseLeast = time.Second
	pauseMost  = time.Minute
)

// heldEvery is how late a reading may come that had to wait for its least
// interval.
const heldEvery = 100 * time.Millisecond

// run serves one connector until ctx ends.
func (b *Box) run(ctx context.Context, c Connector) {
	defer b.state.stopped()
	if !b.openDisk(ctx) {
		return
	}
	var wg, draining sync.WaitGroup
	drain, stop := context.WithCancel(context.WithoutCancel(ctx))
	draining.Go(func() { b.queue.run(drain, b) })
	wg.Go(func() { b.reportHeld(ctx) })
	draining.Go(func() { b.aside.run(drain, b) })
	if b.commands != nil {
		wg.Go(func() { b.receive(ctx) })
	}
	b.keep(ctx, c)
	wg.Wait()
	b.queue.settle(stopGrace)
	stop()
	draining.Wait()
	b.aside.close()
}

// openDisk opens what this connector keeps on disk. Where that cannot be it is
// tried again until ctx ends, and the connector does not run: its trouble is
// not the others', and what its device says could not be kept.
func (b *Box) openDisk(ctx context.Context) bool {
	for tries := 1; ; tries++ {
		err := b.open()
		if err == nil {
			b.state.unstuck()
			return true
		}
		b.state.stuck(b.log, fmt.Errorf("not started, records cannot be kept on disk: %w; mend that, or move it away", err))
		if !pause(ctx, tries) {
			return false
		}
	}
}

func (b *Box) open() error {
	if b.cfg.FS == nil {
		return nil
	}
	err := b.queue.open(b.cfg.FS, "spool/"+b.name, b.spool)
	if err == nil {
		err = b.aside.open(b.cfg.FS, "aside/"+b.name)
	}
	return err
}

// pause waits before the next of so many tries; false: ctx has ended.
func pause(ctx context.Context, tries int) bool {
	select {
	case <-time.After(kafka.Backoff(tries, pauseLeast, pauseMost)):
		return true
	case <-ctx.Done():
		return false
	}
}

// keep calls Run again and again, with a pause between.
func (b *Box) keep(ctx context.Context, c Connector) {
	for tries := 0; ; {
		err := guarded(ctx, c, b)
		if ctx.Err() != nil {
			return
		}
		b.endRun()
		if err == nil {
			err = errors.New("the connector ended by itself")
		}
		tries = b.state.down(b.log, err, tries)
		if !pause(ctx, tries) {
			return
		}
	}
}

// endRun lets go of a command that Run has left without an answer.
func (b *Box) endRun() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.over)
	b.over = make(chan struct{})
}

func (b *Box) runOver() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over
}

// guarded turns a panic into an error: one protocol's fault is not the
// others'.
func guarded(ctx context.Context, c Connector, b *Box) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.log.Error("connector panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("a fault in the connector, please report it: %v", p)
		}
	}()
	return c.Run(ctx, b)
}

func (b *Box) reportHeld(ctx context.Context) {
	t := time.NewTicker(heldEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if due := b.reports.due(b.cfg.now()); len(due) > 0 {
				_ = b.readings(due)
			}
		case <-ctx.Done():
			return
		}
	}
}

// receive reads commands until ctx ends.
func (b *Box) receive(ctx context.Context) {
	for tries := 1; ctx.Err() == nil; tries++ {
		if err := b.back.commands(ctx, b); err != nil && ctx.Err() == nil {
			b.log.Warn("read commands", "topic", b.commands.Topic, "error", err)
		}
		pause(ctx, tries)
	}
}
