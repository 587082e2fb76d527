package modules

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Deps says where a module's file is and what it needs.
type Deps struct {
	paths  map[string]string   // by normal name, relative to the module folder
	needs  map[string][]string // by normal name: normal names
	before map[string][]string // likewise: what is to be there first, if it can be
}

// ParseDeps reads a modules.dep file: "PATH: PATH PATH …" a line.
func ParseDeps(r io.Reader) (*Deps, error) {
	d := &Deps{paths: map[string]string{}, needs: map[string][]string{}, before: map[string][]string{}}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		file, needs, found := strings.Cut(s.Text(), ":")
		if !found {
			continue
		}
		name := nameOf(file)
		d.paths[name] = strings.TrimSpace(file)
		for _, n := range strings.Fields(needs) {
			d.needs[name] = append(d.needs[name], nameOf(n))
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read modules.dep: %w", err)
	}
	return d, nil
}

// ParseSoft reads a modules.softdep file, "softdep NAME pre: A B post: C" a
// line, of which only what comes before counts. Its names may be aliases.
func (d *Deps) ParseSoft(r io.Reader, a *Aliases) error {
	s := bufio.NewScanner(r)
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		pre := false
		for _, word := range f[2:] {
			switch {
			case strings.HasSuffix(word, ":"):
				pre = word == "pre:"
			case pre && d.paths[normal(word)] != "":
				d.before[normal(f[1])] = append(d.before[normal(f[1])], normal(word))
			case pre:
				d.before[normal(f[1])] = append(d.before[normal(f[1])], a.Match(word)...)
			}
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read modules.softdep: %w", err)
	}
	return nil
}

// ErrUnknown says that there is no such module; it may be built in.
var ErrUnknown = errors.New("no such module")

// Need is a module on the way to another.
type Need struct {
	Name string
	Soft bool // it may be left out
}

// Order returns the modules to load for name, what it needs first. An unknown
// module is an error unless the need is soft; one that needs itself is loaded
// once.
func (d *Deps) Order(name string) ([]Need, error) {
	var out []Need
	seen := map[string]bool{}
	var visit func(n string, soft bool) error
	visit = func(n string, soft bool) error {
		if seen[n] {
			return nil
		}
		seen[n] = true
		if d.paths[n] == "" {
			return fmt.Errorf("find module %s: %w", n, ErrUnknown)
		}
		for _, first := range d.before[n] {
			_ = visit(first, true)
		}
		for _, need := range d.needs[n] {
			if err := visit(need, soft); err != nil {
				return err
			}
		}
		out = append(out, Need{n, soft})
		return nil
	}
	return out, visit(normal(name), false)
}

// nameOf is the module's name by its file: "kernel/fs/nls/nls_cp437.ko".
func nameOf(file string) string {
	base, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".")
	return normal(base)
}
