//go:build linux

package modules

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Loader loads modules of the running kernel. It may be used by several
// goroutines.
type Loader struct {
	log    *slog.Logger
	dir    string // "/usr/lib/modules/<release>"
	live   string // "/sys/module": loaded and built-in modules
	alias  *Aliases
	deps   *Deps
	insert func(path string) error

	mu      sync.Mutex
	tried   map[string]*attempt      // by module
	asked   map[string]chan struct{} // by modalias; closed when its modules were tried
	missing map[string]bool          // see Missing
	took    []Took
}

// attempt is the one attempt to load a module.
type attempt struct {
	over chan struct{} // closed when err is set
	err  error
}

// roots are where module folders lie: in the root and in the initramfs.
var roots = []string{"/usr/lib/modules", "/lib/modules"}

// Open reads the module folder of the running kernel.
func Open(log *slog.Logger) (*Loader, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask for the kernel's release: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	for _, r := range roots {
		dir := filepath.Join(r, release)
		if _, err := os.Stat(dir); err == nil {
			return open(log, dir, "/sys/module", finit)
		}
	}
	return nil, fmt.Errorf("open modules of kernel %s: %w in %s", release, fs.ErrNotExist, strings.Join(roots, ", "))
}

func open(log *slog.Logger, dir, live string, insert func(string) error) (*Loader, error) {
	l := &Loader{log: log, dir: dir, live: live, insert: insert, tried: map[string]*attempt{}, asked: map[string]chan struct{}{}, missing: map[string]bool{}}
	for name, parse := range map[string]func(io.Reader) error{
		"modules.alias": func(r io.Reader) (err error) { l.alias, err = ParseAliases(r); return },
		"modules.dep":   func(r io.Reader) (err error) { l.deps, err = ParseDeps(r); return },
	} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("open module index: %w", err)
		}
		err = parse(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	f, err := os.Open(filepath.Join(dir, "modules.softdep"))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open module index: %w", err)
	}
	defer f.Close()
	return l, l.deps.ParseSoft(f, l.alias)
}

// Load loads a module and what it needs, and waits for those that another
// goroutine is loading. One that is built in or loaded already is no error, nor
// is one whose device is absent.
func (l *Loader) Load(name string) error {
	_, err := l.load(normal(name))
	return err
}

// load also says how many modules nobody had tried before.
func (l *Loader) load(name string) (fresh int, err error) {
	if l.isLive(name) {
		return 0, nil
	}
	order, err := l.deps.Order(name)
	if err != nil {
		return 0, err
	}
	for _, m := range order {
		if l.isLive(m.Name) { // through another loader, or asked for by the kernel
			continue
		}
		first, err := l.try(m.Name)
		if first {
			fresh++
		}
		switch {
		case err == nil || m.Soft:
		case m.Name == name:
			return fresh, fmt.Errorf("load module %s: %w", name, err)
		default:
			return fresh, fmt.Errorf("load module %s, which %s needs: %w", m.Name, name, err)
		}
	}
	return fresh, nil
}

// isLive says whether a module is loaded or built in. While it is being loaded
// it shows as well: its initstate is "live" only afterwards.
func (l *Loader) isLive(name string) bool {
	if _, err := os.Stat(filepath.Join(l.live, name)); err != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join(l.live, name, "initstate"))
	return err != nil || strings.TrimSpace(string(b)) == "live" // built in: has none
}

// try inserts a module unless that was tried; whoever comes second waits for
// the outcome of the first.
func (l *Loader) try(module string) (first bool, err error) {
	l.mu.Lock()
	a, insert := l.tried[module], l.insert
	if a == nil {
		first, a = true, &attempt{over: make(chan struct{})}
		l.tried[module] = a
	}
	l.mu.Unlock()
	if !first {
		<-a.over
		return false, a.err
	}
	defer close(a.over)
	a.err = l.timed(insert, filepath.Join(l.dir, l.deps.paths[module]))
	if unfit(a.err) {
		l.mu.Lock()
		l.missing[module] = true
		l.mu.Unlock()
	}
	return true, a.err
}

// LoadAlias loads what matches a modalias, unless somebody else does or did.
// Failures are logged: a driver that does not want its device must not keep
// others from theirs.
func (l *Loader) LoadAlias(modalias string) { l.loadAlias(modalias) }

// loadAlias returns how many modules nobody had tried before, and what is closed
// when all that match were.
func (l *Loader) loadAlias(modalias string) (fresh int, over chan struct{}) {
	l.mu.Lock()
	over, known := l.asked[modalias]
	if !known {
		over = make(chan struct{})
		l.asked[modalias] = over
	}
	l.mu.Unlock()
	if known {
		return 0, over
	}
	defer close(over)
	for _, m := range l.alias.Match(modalias) {
		n, err := l.load(m)
		if err != nil && !errors.Is(err, ErrUnknown) {
			l.log.Warn(err.Error(), "device", modalias)
		}
		fresh += n
	}
	return fresh, over
}

// LoadList loads the modules that a file names, one a line, # for comments, and
// leaves out some. A file that is not there names none.
func (l *Loader) LoadList(file string, but ...string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open module list: %w", err)
	}
	defer f.Close()
	var all []error
	s := bufio.NewScanner(f)
	for s.Scan() {
		name, _, _ := strings.Cut(s.Text(), "#")
		if name = strings.TrimSpace(name); name == "" || slices.Contains(but, name) {
			continue
		}
		if err := l.Load(name); err != nil {
			all = append(all, err)
			if errors.Is(err, ErrUnknown) {
				l.mu.Lock()
				l.missing[normal(name)] = true
				l.mu.Unlock()
			}
		}
	}
	return errors.Join(append(all, s.Err())...)
}

// Devices are where modaliases stand below sysfs: of devices on a bus, of
// devices of a class without one (input, dmi), and of the processors, whose
// modules are ciphers and checksums done fast, and sensors. A walk over all of
// /sys/devices finds the same and opens many times more files.
var (
	Devices    = []string{"bus/*/devices/*/modalias", "class/*/*/modalias"}
	Processors = []string{"devices/system/*/modalias"}
)

// Coldplug loads modules for the devices of a sysfs ("/sys") at the places given,
// and again for those that show up through them, until nothing new does.
func (l *Loader) Coldplug(ctx context.Context, sys string, where []string) error {
	for ctx.Err() == nil {
		more, err := l.Scan(sys, where)
		if err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

// Scan loads modules for the devices that are there now, and waits for those
// that somebody else is loading. More says that devices may have shown up
// through them.
func (l *Loader) Scan(sys string, where []string) (more bool, err error) {
	var all []chan struct{}
	for _, pattern := range where {
		found, err := filepath.Glob(filepath.Join(sys, pattern))
		if err != nil {
			return more, err
		}
		for _, file := range found {
			if b, err := os.ReadFile(file); err == nil { // devices may vanish
				fresh, over := l.loadAlias(strings.TrimSpace(string(b)))
				more = more || fresh > 0
				all = append(all, over)
			}
		}
	}
	for _, over := range all {
		select {
		case <-over:
		default:
			more = true
			<-over
		}
	}
	return more, nil
}

// unfit says that a module's file is not there, or is not this kernel's: the
// release's own fault. All else may be the device's.
func unfit(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOEXEC) || errors.Is(err, unix.ENOKEY)
}

// Missing are the modules that were wanted and that the release does not hold,
// or that its kernel does not take, in order.
func (l *Loader) Missing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.missing))
}

// Without has the files of some modules be gone, for tests of whole boxes.
func (l *Loader) Without(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	insert := l.insert
	l.insert = func(path string) error {
		if slices.Contains(names, nameOf(path)) {
			return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return insert(path)
	}
}

// Count is how many modules were loaded.
func (l *Loader) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.tried {
		select {
		case <-a.over:
			if a.err == nil {
				n++
			}
		default: // under way
		}
	}
	return n
}

// finit loads one file; the kernel itself unpacks a compressed one.
func finit(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(path) // the initramfs went while it was looked for there; the root has it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(path, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	switch err {
	case unix.EEXIST, unix.ENODEV: // loaded already; its hardware is not here
		return nil
	}
	return err
}

// Modprobe is what the kernel runs when it wants a module itself: a file
// system at mount, a cipher, a protocol. Its arguments are "-q -- ALIAS".
func Modprobe(args []string) error {
	l, err := Open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var all []error
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		names := l.alias.Match(a)
		if len(names) == 0 {
			names = []string{a}
		}
		for _, n := range names {
			all = append(all, l.Load(n))
		}
	}
	return errors.Join(all...)
}
