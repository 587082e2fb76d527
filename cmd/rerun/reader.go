package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/waysideos/wayside/qemu"
)

// key is a test that is no part of another.
type key struct{ pkg, test string }

// event is a line of `go test -json`, as `go doc test2json` has it.
type event struct {
	Action, Package, Test, Output string
}

// reader prints what each package prints, when it has ended, and notes what
// failed.
type reader struct {
	out      io.Writer
	rest     []byte // of a line that is not whole
	printed  map[string]*strings.Builder
	packages map[string]bool // that failed
	failed   map[key]bool
	faulty   map[key]bool // that spoke of the emulator's fault
}

func newReader(out io.Writer) *reader {
	return &reader{
		out: out, printed: make(map[string]*strings.Builder),
		packages: make(map[string]bool), failed: make(map[key]bool), faulty: make(map[key]bool),
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
	name, _, _ := strings.Cut(e.Test, "/")
	k := key{e.Package, name}
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
		if name != "" && strings.Contains(e.Output, qemu.EmulatorFault) {
			r.faulty[k] = true
		}
	case "fail":
		if name != "" {
			r.failed[k] = true
			return
		}
		r.packages[e.Package] = true
		r.print(e.Package)
	case "pass", "skip":
		if name == "" {
			r.print(e.Package)
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
// says that nothing else failed.
func (r *reader) stopped() (all []key, ok bool) {
	explained := make(map[string]bool)
	for k := range r.failed {
		if !r.faulty[k] {
			return nil, false
		}
		explained[k.pkg] = true
		all = append(all, k)
	}
	for pkg := range r.packages {
		if !explained[pkg] {
			return nil, false
		}
	}
	slices.SortFunc(all, func(a, b key) int { return strings.Compare(a.pkg+a.test, b.pkg+b.test) })
	return all, len(all) > 0
}
