package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/services/manifest"
)

// begin notes that a boot of the trial has come as far as this.
func (k *Keeper) begin(b *slots.Boot) {
	k.trial, k.level = true, k.oldLevel()
	if k.rec.Pending == nil {
		k.rec.Pending = &Pending{From: k.rec.Committed, Asked: k.cfg.Now(), Activate: manifest.Activate{
			Version: k.cfg.Running.Version, Counter: k.cfg.Running.Counter, RootHash: k.cfg.Running.RootHash,
		}}
	}
	p := k.rec.Pending
	if n := len(p.Boots); n > 0 && p.Boots[n-1].ResetCause == "" {
		p.Boots[n-1].ResetCause = k.resetCause()
	}
	p.Boots = append(p.Boots, Trace{Tries: b.Running.Done, Reached: "init"})
	p.Boots = p.Boots[max(0, len(p.Boots)-maxTraces):]
	k.cfg.Log.Info("update: version "+k.cfg.Running.Version+" is on trial", "tries left", b.Running.Left)
	k.problem(k.save())
}

func (k *Keeper) resetCause() string {
	if k.cfg.ResetCause == nil {
		return ""
	}
	return k.cfg.ResetCause()
}

// trace is this boot's; nil unless a trial runs.
func (k *Keeper) trace() *Trace {
	if !k.trial || k.rec.Pending == nil || len(k.rec.Pending.Boots) == 0 {
		return nil
	}
	return &k.rec.Pending.Boots[len(k.rec.Pending.Boots)-1]
}

// Reached notes how far a trial's boot has come.
func (k *Keeper) Reached(step string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.trace(); t != nil {
		t.Reached = step
		k.note(t)
	}
}

// Failing notes why this boot cannot go on. The loader counts it.
func (k *Keeper) Failing(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.trace(); t != nil {
		t.Failure = why
		k.note(t)
	}
}

// note keeps the log of the moment with the trace.
func (k *Keeper) note(t *Trace) {
	for i := range k.rec.Pending.Boots {
		k.rec.Pending.Boots[i].Log = nil // the last one's is enough
	}
	t.Log = k.tail()
	if err := k.save(); err != nil {
		k.cfg.Log.Warn("update", "err", err)
	}
}

func (k *Keeper) tail() []string {
	if k.cfg.Tail == nil {
		return nil
	}
	lines := slices.Clone(k.cfg.Tail())
	lines = lines[max(0, len(lines)-maxLines):]
	for i, l := range lines {
		lines[i] = l[:min(len(l), maxLine)]
	}
	return lines
}

// outcome says how the pending trial failed, from what is left of it.
func (k *Keeper) outcome(b *slots.Boot) manifest.Outcome {
	p := k.rec.Pending
	o := manifest.Outcome{
		Version: p.Version, Counter: p.Counter, RootHash: p.RootHash, From: p.From.Version, Time: k.cfg.Now(),
		ResetCause: k.resetCause(), Tries: len(p.Boots),
	}
	if e := b.Find(p.RootHash); e != nil && e.Counted {
		o.Tries = max(e.Done, o.Tries)
	}
	var last Trace
	if n := len(p.Boots); n > 0 {
		last = p.Boots[n-1]
	}
	o.Reached, o.Log = last.Reached, last.Log
	for _, t := range p.Boots {
		if o.ResetCause == "" {
			o.ResetCause = t.ResetCause
		}
	}
	switch {
	case p.Verdict != nil:
		o.Check, o.Reason, o.Detail = p.Verdict.Check, p.Verdict.Reason, p.Verdict.Detail
	case last.Failure != "":
		o.Check, o.Reason = "init", last.Failure
	case last.Reached != "":
		o.Check, o.Reason = "boot", fmt.Sprintf("its boots ended without a word, the last one after %q", last.Reached)
	default:
		o.Check, o.Reason = "boot", "it died before init, or was not started at all"
	}
	return o
}

// saveLog is how often the log of a trial is kept, should it end by a reset.
const saveLog = 20 * time.Second

// Run fails a trial that is not called good within window, and keeps its log
// meanwhile. It returns at once when no trial runs.
func (k *Keeper) Run(ctx context.Context, window time.Duration) error {
	if window <= 0 {
		window = DefaultWindow
	}
	k.mu.Lock()
	k.deadline = time.Now().Add(window)
	k.mu.Unlock()
	tick := time.NewTicker(saveLog)
	defer tick.Stop()
	for k.OnTrial() {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		k.mu.Lock()
		why := ""
		if k.trial && time.Now().After(k.deadline) {
			why = fmt.Sprintf("nobody called the version good within %v", window)
		} else if k.cfg.Hopeless != nil {
			why = k.cfg.Hopeless()
		}
		if t := k.trace(); t != nil && why == "" {
			k.note(t)
		}
		k.mu.Unlock()
		if why == "" {
			continue
		}
		err := k.Fail(manifest.Fail{Check: "init", Reason: why})
		var refused slots.Refusal
		if err == nil || errors.As(err, &refused) {
			return err
		}
	}
	return nil
}
