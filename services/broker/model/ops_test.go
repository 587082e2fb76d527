package model

import (
	"time"
)

// op is one step of a history: what it does, and the numbers it does it with.
type op struct {
	kind int
	seed uint64
}

// kinds are the operations, with how often each comes in a hundred or so.
var kinds = []struct {
	name   string
	weight int
	do     func(*world)
}{
	{"produce", 12, (*world).opProduce},
	{"burst", 8, (*world).opBurst},
	{"idempotent", 10, (*world).opIdempotent},
	{"again", 4, (*world).opAgain},
	{"out-of-order", 2, (*world).opOutOfOrder},
	{"transaction", 14, (*world).opTransact},
	{"end", 8, (*world).opEnd},
	{"take-over", 3, (*world).opTakeOver},
	{"commit", 5, (*world).opCommit},
	{"delete-group", 1, (*world).opDeleteGroup},
	{"delete-offset", 1, (*world).opDeleteOffset},
	{"share", 8, (*world).opShare},
	{"share-all", 2, (*world).opShareAll},
	{"share-forget", 1, (*world).opShareForget},
	{"create", 2, (*world).opCreate},
	{"delete", 2, (*world).opDelete},
	{"grow", 1, (*world).opGrow},
	{"delete-records", 3, (*world).opDeleteRecords},
	{"alter", 3, (*world).opAlter},
	{"wait", 5, func(w *world) { w.sleep(time.Duration(w.rng.IntN(8000)) * time.Millisecond) }},
	{"wait-long", 1, func(w *world) { w.sleep(time.Duration(30+w.rng.IntN(700)) * time.Second) }},
	{"read", 6, (*world).opRead},
	{"read-all", 1, func(w *world) { w.eachPart(w.verify); w.offsets(false) }},
	{"stop", 2, (*world).restart},
	{"kill", 2, (*world).opKill},
	{"cut", 2, (*world).opCut},
	{"cut-soon", 6, func(w *world) { w.cutAfter(w.rng.IntN(40)) }},
	{"fill", 1, func(w *world) { w.setFull(true) }},
	{"room", 2, func(w *world) { w.room() }},
	{"fail-sync", 1, (*world).opFailSync},
	{"set-clock", 1, func(w *world) { w.skew += time.Duration(w.rng.IntN(200)-100) * time.Hour }},
}

func (w *world) cutAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countdown = n
	w.notef("  in %d operations", n)
}

// calm takes back what was going to fail.
func (w *world) calm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countdown, w.failSync = -1, ""
}

func (w *world) opCut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut()
}

// opKill ends the process: what it wrote stays in the page cache.
func (w *world) opKill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killed = true
}

func (w *world) room() {
	if w.full {
		w.setFull(false)
		w.sleep(2 * time.Second)
	}
}

func (w *world) opFailSync() {
	dir := "meta"
	if p := w.pick(); p != nil && w.rng.IntN(4) > 0 {
		dir = p.dir()
	}
	w.notef("  in %s", dir)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failSync = dir
}

// pick chooses a partition; nil when there is none.
func (w *world) pick() *part {
	names := w.names()
	if len(names) == 0 {
		return nil
	}
	t := w.topics[names[w.rng.IntN(len(names))]]
	return t.parts[w.rng.IntN(len(t.parts))]
}

func (w *world) opRead() {
	if p := w.pick(); p != nil {
		w.verify(p)
	}
	if w.rng.IntN(2) == 0 {
		w.offsets(false)
	}
}
