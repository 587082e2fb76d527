package manifest

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	serviceSuffix = ".service"
	socketSuffix  = ".socket"
)

// ReadDir reads every *.service and *.socket file of dir. Units come in an
// order in which each stands behind all that it names in After and Requires;
// sockets are sorted by name. It refuses names that no file declares and
// circles, so that what it returns can be started.
func ReadDir(fsys fs.FS, dir string) ([]Unit, []Socket, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read units: %w", err)
	}
	var units []Unit
	var sockets []Socket
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if e.IsDir() || ext != serviceSuffix && ext != socketSuffix {
			continue
		}
		file := path.Join(dir, e.Name())
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, nil, fmt.Errorf("read unit %s: %w", file, err)
		}
		if ext == serviceSuffix {
			u, err := ParseUnit(file, text)
			if err != nil {
				return nil, nil, err
			}
			units = append(units, u)
			continue
		}
		s, err := ParseSocket(file, text)
		if err != nil {
			return nil, nil, err
		}
		sockets = append(sockets, s)
	}
	if err := link(units, sockets); err != nil {
		return nil, nil, err
	}
	units, err = Order(units)
	return units, sockets, err
}

// link checks the names units and sockets call each other by, and completes
// each unit's Sockets.
func link(units []Unit, sockets []Socket) error {
	byName := map[string]*Unit{}
	for i := range units {
		byName[units[i].Name] = &units[i]
	}
	for i := range units {
		u := &units[i]
		for _, name := range slices.Concat(u.After, u.Requires) {
			if byName[name] == nil {
				return fmt.Errorf("%s: After or Requires names %s.service, which no file declares", u.File, name)
			}
		}
		for _, name := range u.Sockets {
			if !slices.ContainsFunc(sockets, func(s Socket) bool { return s.Name == name }) {
				return fmt.Errorf("%s: Sockets names %s.socket, which no file declares", u.File, name)
			}
		}
	}
	for _, s := range sockets {
		u := byName[s.Service]
		if u == nil {
			return fmt.Errorf("%s: is for %s.service, which no file declares", s.File, s.Service)
		}
		if !slices.Contains(u.Sockets, s.Name) {
			u.Sockets = append(u.Sockets, s.Name)
		}
	}
	return nil
}

// Order sorts units so that each stands behind those it names in After and
// Requires, otherwise by name. Names outside units are ignored. A circle is
// an error that names it.
func Order(units []Unit) ([]Unit, error) {
	const visiting, done = 1, 2
	byName := map[string]Unit{}
	var names []string
	for _, u := range units {
		byName[u.Name] = u
		names = append(names, u.Name)
	}
	slices.Sort(names)
	state := map[string]int{}
	var out []Unit
	var visit func(name string, trail []string) error
	visit = func(name string, trail []string) error {
		u, known := byName[name]
		if !known || state[name] == done {
			return nil
		}
		if state[name] == visiting {
			circle := append(trail[slices.Index(trail, name):], name)
			return fmt.Errorf("%s: units wait for each other: %s", u.File, strings.Join(circle, " after "))
		}
		state[name] = visiting
		for _, dep := range slices.Sorted(slices.Values(slices.Concat(u.After, u.Requires))) {
			if err := visit(dep, append(trail, name)); err != nil {
				return err
			}
		}
		state[name] = done
		out = append(out, u)
		return nil
	}
	for _, name := range names {
		if err := visit(name, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}
