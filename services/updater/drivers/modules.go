package drivers

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/waysideos/wayside/image/layout"
)

// modules is what a root or an initramfs has for some devices.
type modules struct {
	matched map[string]bool // modaliases
	names   map[string]bool // of all modules, those in the kernel included
}

// serve says whether there is a driver for a device: one that asks for its
// modalias or, since what is part of a kernel does not tell which devices it
// is for, the one that it has now.
func (m modules) serve(d Device) bool {
	return m.matched[d.Modalias] || d.Module != "" && m.names[d.Module]
}

// opener opens the files that the build leaves beside modules, by name.
type opener func(name string) (io.ReadCloser, error)

// depTable names all modules that are there.
const depTable = "modules.dep"

// ofRoot finds the tables in a root.
func ofRoot(root fs.FS) (opener, error) {
	dirs, err := fs.Glob(root, path.Join(strings.TrimPrefix(layout.RootModules, "/"), "*", depTable))
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, errNoModules
	}
	return func(name string) (io.ReadCloser, error) { return root.Open(path.Join(path.Dir(dirs[0]), name)) }, nil
}

// readModules reads tables (modules.alias(5), modules.dep(5)) as far as they
// are about devices.
func readModules(t opener, devices []Device) (modules, error) {
	m := modules{matched: map[string]bool{}, names: map[string]bool{}}
	alias := func(line string) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "alias" {
			return
		}
		for _, d := range devices {
			if matches(f[1], d.Modalias) {
				m.matched[d.Modalias] = true
			}
		}
	}
	name := func(line string) {
		file, _, _ := strings.Cut(line, ":")
		base, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".")
		m.names[normal(base)] = true
	}
	return m, errors.Join(
		t.eachLine("modules.alias", alias), t.eachLine("modules.builtin.alias", alias),
		t.eachLine(depTable, name), t.eachLine("modules.builtin", name))
}

// normal is the name by which the kernel knows a module: dashes in file names
// are underscores.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// matches compares as fnmatch(3) does; modaliases hold no slash. Most of the
// thousands of patterns differ in their literal head.
func matches(pattern, modalias string) bool {
	head := pattern
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		head = pattern[:i]
	}
	if !strings.HasPrefix(modalias, head) {
		return false
	}
	ok, err := path.Match(pattern, modalias)
	return err == nil && ok
}

func (t opener) eachLine(name string, do func(string)) error {
	f, err := t(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		do(s.Text())
	}
	return s.Err()
}
