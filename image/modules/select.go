package modules

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Select returns the modules that words name, with everything they depend on
// hard or soft, sorted by path. A word with a slash is a module's path or a
// folder below the module folder; any other is a module's name, hyphens and
// underscores alike, and one with a colon is a device's modalias, which stands
// for the modules that the kernel would load for it. A name built into the kernel selects nothing; a word that
// means nothing to this kernel is an error.
func (ix *Index) Select(words []string) ([]Module, error) {
	s := newSelection(ix)
	for _, word := range words {
		found, err := s.find(word)
		if err != nil {
			return nil, err
		}
		for _, i := range found {
			if err := s.add(i); err != nil {
				return nil, err
			}
		}
	}
	var out []Module
	for i, chosen := range s.chosen {
		if chosen {
			out = append(out, ix.Modules[i])
		}
	}
	return out, nil
}

type selection struct {
	ix      *Index
	byName  map[string]int
	byAlias map[string][]int // plain aliases only, as softdeps name them
	builtin map[string]bool  // by name
	chosen  []bool           // by index into ix.Modules
}

func newSelection(ix *Index) *selection {
	s := &selection{
		ix: ix, byName: map[string]int{}, byAlias: map[string][]int{}, builtin: map[string]bool{},
		chosen: make([]bool, len(ix.Modules)),
	}
	for _, p := range ix.Builtin {
		s.builtin[nameOf(p)] = true
	}
	for i, m := range ix.Modules {
		s.byName[m.Name] = i
		for _, alias := range m.Aliases {
			if !strings.ContainsAny(alias, "*?[:") {
				s.byAlias[normal(alias)] = append(s.byAlias[normal(alias)], i)
			}
		}
	}
	return s
}

func (s *selection) find(word string) ([]int, error) {
	if strings.Contains(word, ":") {
		return s.findDevice(word)
	}
	if strings.Contains(word, "/") {
		return s.findPath(strings.Trim(word, "/"))
	}
	name := nameOf(word)
	if i, ok := s.byName[name]; ok {
		return []int{i}, nil
	}
	if s.builtin[name] {
		return nil, nil
	}
	return nil, fmt.Errorf("kernel %s has no module %q, loadable or built in", s.ix.Release, word)
}

// findDevice matches a modalias against the patterns of all modules. What the
// kernel has built in needs no module.
func (s *selection) findDevice(modalias string) ([]int, error) {
	matches := func(pattern string) bool { return strings.Contains(pattern, ":") && glob(pattern, modalias) }
	var found []int
	for i, m := range s.ix.Modules {
		if slices.ContainsFunc(m.Aliases, matches) {
			found = append(found, i)
		}
	}
	for _, line := range s.ix.BuiltinAliases {
		if words := strings.Fields(line); len(words) == 3 && matches(words[1]) {
			return found, nil
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("kernel %s has no module for the device %q", s.ix.Release, modalias)
	}
	return found, nil
}

// glob is path.Match for text in which a slash is a character like others.
func glob(pattern, text string) bool {
	plain := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(plain.Replace(pattern), plain.Replace(text))
	return ok && err == nil
}

func (s *selection) findPath(prefix string) ([]int, error) {
	file := strings.TrimSuffix(strings.TrimSuffix(prefix, ".xz"), ".ko") + ".ko"
	var found []int
	for i, m := range s.ix.Modules {
		if m.Path == file || strings.HasPrefix(m.Path, prefix+"/") {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("kernel %s has no module at or below %s", s.ix.Release, prefix)
	}
	return found, nil
}

// add chooses a module and all it depends on. Softdeps may name what this
// kernel does not have; that is what makes them soft.
func (s *selection) add(i int) error {
	if s.chosen[i] {
		return nil
	}
	s.chosen[i] = true
	m := &s.ix.Modules[i]
	for _, name := range m.Depends {
		dep, ok := s.byName[name]
		if !ok {
			return fmt.Errorf("module %s depends on %s, which kernel %s does not have", m.Path, name, s.ix.Release)
		}
		if err := s.add(dep); err != nil {
			return err
		}
	}
	for _, name := range m.softNames() {
		if err := s.addSoft(normal(name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *selection) addSoft(name string) error {
	if i, ok := s.byName[name]; ok {
		return s.add(i)
	}
	for _, i := range s.byAlias[name] {
		if err := s.add(i); err != nil {
			return err
		}
	}
	return nil
}

// Loadable returns those of the names that this kernel has as loadable
// modules, as the kernel writes them, without repetition and in order.
func (ix *Index) Loadable(names []string) []string {
	s := newSelection(ix)
	var out []string
	for _, name := range names {
		name = nameOf(name)
		if _, ok := s.byName[name]; ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
