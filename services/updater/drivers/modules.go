package drivers

import (
	"bufio"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// modules is what a root has for some devices.
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

// readModules reads the tables that the build leaves beside the modules
// (modules.alias(5), modules.dep(5)) as far as they are about devices.
func readModules(root fs.FS, devices []Device) (modules, error) {
	m := modules{matched: map[string]bool{}, names: map[string]bool{}}
	dirs, err := fs.Glob(root, "usr/lib/modules/*/modules.dep")
	if err != nil {
		return m, err
	}
	if len(dirs) == 0 {
		return m, errNoModules
	}
	dir := path.Dir(dirs[0])
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
		m.names[strings.ReplaceAll(base, "-", "_")] = true
	}
	return m, errors.Join(
		eachLine(root, path.Join(dir, "modules.alias"), alias),
		eachLine(root, path.Join(dir, "modules.builtin.alias"), alias),
		eachLine(root, path.Join(dir, "modules.dep"), name),
		eachLine(root, path.Join(dir, "modules.builtin"), name))
}

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

func eachLine(root fs.FS, name string, do func(string)) error {
	f, err := root.Open(name)
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
