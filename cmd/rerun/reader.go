package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/qemu"
)

// key is a test, or a part of one.
type key struct{ pkg, test string }

// over says whether k is o, or o is part of it.
func (k key) over(o key) bool {
	return k.pkg == o.pkg && (k.test == o.test || strings.HasPrefix(o.test, k.test+"/"))
}

// whole is the test that k is part of.
func (k key) whole() key {
	name, _, _ := strings.Cut(k.test, "/")
	return key{k.pkg, name}
}

// event is a line of `go test -json`, as `go doc test2json` has it.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// reader prints a line for each test that ends, what its package printed when
// that has ended, and notes what failed.
type reader struct {
	out      io.Writer
	rest     []byte // of a line that is not whole
	printed  map[string]*strings.Builder
	packages map[string]bool // that failed
	ended    map[string]bool // packages that failed behind their last test
	failed   map[key]bool
	faulty   map[key]bool // that spoke of the emulator's fault
}

func newReader(out io.Writer) *reader {
	return &reader{
		out: out, printed: make(map[string]*strings.Builder),
		packages: make(map[string]bool), ended: make(map[string]bool), failed: make(map[key]bool), faulty: make(map[key]bool),
	}
}

func (r *reader) Write(p []byte) (int, error) {
	r.rest = append(r.rest, p...)
	for {
		line, rest, whole := bytes.Cut(r.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		r.line(line)
		r.rest = rest
	}
}

func (r *reader) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		fmt.Fprintf(r.out, "%s\n", line)
		return
	}
	k := key{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		io.WriteString(r.out, e.Output)
	case "output":
		b := r.printed[e.Package]
		if b == nil {
			b = &strings.Builder{}
			r.printed[e.Package] = b
		}
		b.WriteString(e.Output)
		switch {
		case e.Test != "" && strings.Contains(e.Output, qemu.EmulatorFault):
			r.faulty[k] = true
		case e.Test == "" && e.Output == "FAIL\n":
			// Not printed of what a panic or its deadline ends: other tests were
			// under way then, or never began.
			r.ended[e.Package] = true
		}
	case "pass", "fail", "skip":
		failed := e.Action == "fail"
		if e.Test == "" {
			if failed {
				r.packages[e.Package] = true
			}
			r.print(e.Package)
			return
		}
		if failed {
			r.failed[k] = true
		}
		if k == k.whole() {
			fmt.Fprintf(r.out, "%s: %s of %s, %.0f s\n", e.Action, e.Test, path.Base(e.Package), e.Elapsed)
		}
	}
}

func (r *reader) print(pkg string) {
	if b := r.printed[pkg]; b != nil {
		io.WriteString(r.out, b.String())
		delete(r.printed, pkg)
	}
}

// flush prints what packages have printed that never ended.
func (r *reader) flush() {
	for pkg := range r.printed {
		r.print(pkg)
	}
	fmt.Fprintf(r.out, "%s", r.rest)
}

// stopped are the tests that failed in machines whose emulator had stopped; ok
// says that nothing else failed, and that no more than most met the fault. What
// is said of one part of a test excuses no other.
func (r *reader) stopped() (all []key, ok bool) {
	met, again, explained := make(map[key]bool), make(map[key]bool), make(map[string]bool)
	for k := range r.faulty {
		met[k.whole()] = true
	}
	for k := range r.failed {
		parts := some(r.failed, func(o key) bool { return o != k && k.over(o) })
		told := some(r.faulty, func(o key) bool { return k.over(o) || o.over(k) })
		if !parts && !told {
			return nil, false
		}
		again[k.whole()], explained[k.pkg] = true, true
	}
	for pkg := range r.packages {
		if !explained[pkg] || !r.ended[pkg] {
			return nil, false
		}
	}
	all = slices.SortedFunc(maps.Keys(again), func(a, b key) int { return strings.Compare(a.pkg+a.test, b.pkg+b.test) })
	return all, len(all) > 0 && len(met) <= most
}

func some(of map[key]bool, is func(key) bool) bool {
	for k := range of {
		if is(k) {
			return true
		}
	}
	return false
}
