package model

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

var (
	histories = flag.Int("histories", 2000, "how many random histories to run")
	seedFlag  = flag.Uint64("seed", 0, "run only the history of this number")
	soak      = flag.Duration("soak", 0, "run histories for so long instead")
	verbose   = flag.Bool("history", false, "print the history of -seed")
)

// plan makes the operations of one history.
func plan(seed uint64) []op {
	rng := rand.New(rand.NewPCG(seed, 0x6d6f64656c))
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	ops := make([]op, 20+rng.IntN(60))
	for i := range ops {
		n := rng.IntN(sum)
		kind := slices.IndexFunc(kinds, func(k struct {
			name   string
			weight int
			do     func(*world)
		}) bool {
			n -= k.weight
			return n < 0
		})
		ops[i] = op{kind, rng.Uint64()}
	}
	return ops
}

// run runs one history and returns what was wrong, and what happened.
func run(t *testing.T, seed uint64, ops []op, wrap func(*vfs.Crashable) vfs.FS) (wrong string, trace []string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seed, wrap)
		defer func() {
			trace = w.trace
			w.mu.Lock()
			w.killed = true // whatever it is, it ends now
			w.mu.Unlock()
			if w.stop != nil {
				w.stop()
				for _, c := range w.conns {
					c.nc.Close()
				}
				<-w.ended
			}
		}()
		defer func() {
			if p := recover(); p != nil {
				v, ok := p.(violation)
				if !ok {
					panic(p)
				}
				wrong = v.text
				w.notef("on the disk: %s", w.files("topics"))
			}
		}()
		w.rng = rand.New(rand.NewPCG(seed, 1))
		w.boot()
		for i := range 2 + w.rng.IntN(2) {
			w.create(string(rune('a'+i)), 1+w.rng.IntN(2), shapes[w.rng.IntN(len(shapes))])
		}
		for i, o := range ops {
			w.rng = rand.New(rand.NewPCG(o.seed, 2))
			w.notef("%3d %s", i, kinds[o.kind].name)
			w.step(kinds[o.kind].do)
		}
		w.notef("the end")
		for range 2 {
			w.step((*world).restart)
		}
		w.calm()
		w.step((*world).last)
	})
	return wrong, trace
}

// step does one operation, and starts the broker again if the power failed.
func (w *world) step(do func(*world)) {
	for {
		if w.attempt(do); !w.dead() {
			return
		}
		w.notef("  the power fails")
		do = (*world).restart
	}
}

// attempt ends early when the power fails.
func (w *world) attempt(do func(*world)) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(down); !ok {
				panic(p)
			}
		}
	}()
	do(w)
}

// last ends all transactions and looks at everything.
func (w *world) last() {
	for _, p := range w.prods {
		if p.txid != "" && !w.initialize(p) {
			failf("init %s fails in the end", p.name)
		}
	}
	w.eachPart(func(p *part) {
		w.verify(p)
		if len(p.open) > 0 {
			failf("%s: batch %d is in a transaction that never ends", p.dir(), p.open[0].b.id)
		}
		b := w.make(w.producer("last", ""), p)
		if !w.result(b, w.send(b, 9, -1), -1) {
			failf("%s takes nothing in the end", p.dir())
		}
		w.verify(p)
	})
	w.offsets(true)
}

// TestHistories runs random histories. A failure prints its number and the
// shortest history that was found to fail in the same place.
func TestHistories(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that a number makes the same history again
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	if *seedFlag != 0 {
		if !check(t, *seedFlag) && *verbose {
			_, trace := run(t, *seedFlag, plan(*seedFlag), nil)
			t.Log("\n" + strings.Join(trace, "\n"))
		}
		return
	}
	begin := time.Now()
	n := 0
	first := uint64(1)
	if *soak > 0 {
		first = uint64(begin.Unix()) << 20 // others than last time
	}
	for seed := first; ; seed++ {
		if *soak > 0 && time.Since(begin) > *soak || *soak == 0 && n >= *histories {
			break
		}
		n++
		check(t, seed)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d histories, %.0f a second", n, float64(n)/time.Since(begin).Seconds())
}

// check runs one history and reports; true when it failed.
func check(t *testing.T, seed uint64) bool {
	t.Helper()
	ops := plan(seed)
	late := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("history %d hangs", seed)) })
	wrong, trace := run(t, seed, ops, nil)
	late.Stop()
	if wrong == "" {
		return false
	}
	short, shortWrong, shortTrace := shrink(t, seed, ops, nil, wrong, 300)
	if shortWrong == "" {
		short, shortWrong, shortTrace = ops, "(did not fail again)", trace
	}
	t.Errorf("seed %d: %s\n\nshrunk from %d to %d operations: %s\n%s\n\nagain: go test ./services/broker/model -run TestHistories -seed %d",
		seed, wrong, len(ops), len(short), shortWrong, strings.Join(shortTrace, "\n"), seed)
	return true
}

// kindOf is what a violation is about, without places and numbers.
func kindOf(wrong string) string {
	return regexp.MustCompile(`topics/\S+|[0-9.]+|map\[.*`).ReplaceAllString(wrong, "")
}

// shrink leaves operations out while the history still fails.
func shrink(t *testing.T, seed uint64, ops []op, wrap func(*vfs.Crashable) vfs.FS, first string, tries int) (best []op, wrong string, trace []string) {
	for size := max(1, len(ops)/2); ; size = size / 2 {
		for at := 0; at < len(ops) && tries > 0; {
			less := slices.Delete(slices.Clone(ops), at, min(len(ops), at+size))
			tries--
			if w, tr := run(t, seed, less, wrap); kindOf(w) == kindOf(first) {
				ops, best, wrong, trace = less, less, w, tr
			} else {
				at += size
			}
		}
		if size <= 1 {
			return best, wrong, trace
		}
	}
}
