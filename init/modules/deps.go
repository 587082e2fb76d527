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
	paths map[string]string   // by normal name, relative to the module folder
	needs map[string][]string // by normal name: normal names
}

// ParseDeps reads a modules.dep file: "PATH: PATH PATH …" a line.
func ParseDeps(r io.Reader) (*Deps, error) {
	d := &Deps{paths: map[string]string{}, needs: map[string][]string{}}
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

// ErrUnknown says that there is no such module; it may be built in.
var ErrUnknown = errors.New("no such module")

// Order returns the modules to load for name, what it needs first. An unknown
// module is an error; one that needs itself is loaded once.
func (d *Deps) Order(name string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	var visit func(string) error
	visit = func(n string) error {
		if seen[n] {
			return nil
		}
		seen[n] = true
		if d.paths[n] == "" {
			return fmt.Errorf("find module %s: %w", n, ErrUnknown)
		}
		for _, need := range d.needs[n] {
			if err := visit(need); err != nil {
				return err
			}
		}
		out = append(out, n)
		return nil
	}
	return out, visit(normal(name))
}

// nameOf is the module's name by its file: "kernel/fs/nls/nls_cp437.ko".
func nameOf(file string) string {
	base, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".")
	return normal(base)
}
