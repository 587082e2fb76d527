//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/waysideos/wayside/init/become"
	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

// launcher starts the processes of one service.
type launcher struct {
	cfg     *Config
	unit    *manifest.Unit
	first   []string // environment of the first start only; nil after it
	sockets []*listening
	notify  *notifySocket // nil unless Type=notify
	out     *output
	cgroup  *cgroup // nil where there are no cgroups
	ahead   *ahead  // nil but from StartAhead to the first launch
}

// process is one running main process and what goes with it.
type process struct {
	pid    int
	exit   <-chan reap.Exit
	signal func(os.Signal) error
	group  group
	// finish ends what the main process left behind, after its exit.
	finish func() (oom bool)
}

// launch starts the service's program.
func (l *launcher) launch(ctx context.Context) (*process, error) {
	who, err := lookup(l.unit.User, l.unit.Group, l.unit.SupplementaryGroups)
	if err != nil {
		return nil, err
	}
	l.leaveMoved()
	files, names, err := l.listeners(ctx)
	if err != nil {
		return nil, err
	}
	first := l.takeAhead(files)
	if err := l.prepare(who); err != nil {
		first.end()
		return nil, err
	}
	if first != nil {
		l.first = nil
		return first.begin(), nil
	}
	cmd := l.command(who, names, files)
	l.first = nil
	return l.start(cmd)
}

// listeners gathers the descriptors to hand over, with their names.
func (l *launcher) listeners(ctx context.Context) (files []*os.File, names []string, err error) {
	for _, s := range l.sockets {
		opened, err := s.open(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range opened {
			files, names = append(files, f), append(names, s.socket.FDName)
		}
	}
	return files, names, nil
}

// prepare makes the directories and credentials, and gives the notify socket
// to the user.
func (l *launcher) prepare(who account) error {
	for _, d := range l.unit.StateDirectory {
		if err := ownDirectory(filepath.Join(l.cfg.StateRoot, d), l.unit.StateDirectoryMode, who); err != nil {
			return err
		}
	}
	// What a crash left here, a stale socket above all, must not meet the
	// next process.
	l.removeTransient()
	for _, d := range l.unit.RuntimeDirectory {
		if err := ownDirectory(filepath.Join(l.cfg.RuntimeRoot, d), l.unit.RuntimeDirectoryMode, who); err != nil {
			return err
		}
	}
	if err := l.copyCredentials(who); err != nil {
		return err
	}
	if l.notify != nil {
		return l.notify.give(who)
	}
	return nil
}

func (l *launcher) removeTransient() {
	for _, d := range l.unit.RuntimeDirectory {
		if err := os.RemoveAll(filepath.Join(l.cfg.RuntimeRoot, d)); err != nil {
			l.cfg.Log.Warn("remove runtime directory", "err", err)
		}
	}
	if len(l.unit.Credentials) > 0 {
		if err := os.RemoveAll(l.credentialsDir()); err != nil {
			l.cfg.Log.Warn("remove credentials", "err", err)
		}
	}
}

func (l *launcher) credentialsDir() string {
	return filepath.Join(l.cfg.RuntimeRoot, "credentials", l.unit.Name)
}

// copyCredentials lets the service read files that only root may. /run is in
// memory, so no copy outlives the box's power.
func (l *launcher) copyCredentials(who account) error {
	if len(l.unit.Credentials) == 0 {
		return nil
	}
	dir := l.credentialsDir()
	if err := ownDirectory(dir, 0o700, who); err != nil {
		return err
	}
	for _, c := range l.unit.Credentials {
		text, err := os.ReadFile(c.Path)
		if err != nil {
			return fmt.Errorf("load credential %s: %w", c.ID, err)
		}
		file := filepath.Join(dir, c.ID)
		err = os.WriteFile(file, text, 0o400)
		if err == nil {
			err = chown(file, who)
		}
		if err != nil {
			return fmt.Errorf("store credential %s: %w", c.ID, err)
		}
	}
	return nil
}

// ownDirectory makes a directory and sets owner and mode of its last part.
func ownDirectory(dir string, mode fs.FileMode, who account) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := chown(dir, who); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

// chown leaves files alone where everything belongs to the one user who runs
// this, on a developer's machine.
func chown(name string, who account) error {
	if os.Geteuid() != 0 && who.UID == 0 {
		return nil
	}
	return os.Lchown(name, who.UID, who.GID)
}

// command is init itself, with orders to become the service; names are those
// of files.
func (l *launcher) command(who account, names []string, files []*os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Dir: "/",
		Args:        slices.Concat([]string{become.Name}, l.orders(who, len(files) > 0), []string{"--"}, l.unit.ExecStart),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		Env:         slices.Concat(l.environment(who, names), l.cfg.EachEnv[l.unit.Name], l.first),
		ExtraFiles:  slices.Clone(files),
	}
	if l.cgroup != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, l.cgroup.fd()
	}
	return cmd
}

// orders is what the process has to do to itself, in order.
func (l *launcher) orders(who account, sockets bool) []string {
	u := l.unit
	user := u.User != "" || u.Group != "" || len(who.Groups) > 0
	var all []string
	add := func(wanted bool, order string) {
		if wanted {
			all = append(all, order)
		}
	}
	add(u.LimitNOFILE > 0, become.NOFILE+strconv.FormatUint(u.LimitNOFILE, 10))
	add(u.OOMScoreAdjust != 0, become.OOMScore+strconv.Itoa(u.OOMScoreAdjust))
	add(u.LimitBounding, become.Bound+bits(u.BoundingSet))
	add(user && len(u.AmbientCapabilities) > 0, become.Keep)
	add(user, become.Groups+decimals(who.Groups))
	add(user, become.User+decimals([]int{who.UID, who.GID}))
	add(len(u.AmbientCapabilities) > 0, become.Ambient+bits(u.AmbientCapabilities))
	add(u.NoNewPrivileges, become.NoNewPrivs)
	add(sockets, become.ListenPID)
	add(u.Watchdog > 0, become.WatchPID)
	return all
}

// bits is a set of capabilities as become reads it.
func bits(all []manifest.Capability) string {
	var set uint64
	for _, c := range all {
		set |= 1 << c
	}
	return strconv.FormatUint(set, 10)
}

func decimals(all []int) string {
	var words []string
	for _, n := range all {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}

// environment is what systemd.exec(5) promises, as far as we keep it.
func (l *launcher) environment(who account, fdNames []string) []string {
	env := append([]string{}, l.cfg.Env...)
	env = append(env, "HOME="+who.Home, "USER="+who.Name, "LOGNAME="+who.Name)
	if l.notify != nil {
		env = append(env, "NOTIFY_SOCKET="+l.notify.path)
	}
	if l.unit.Watchdog > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(l.unit.Watchdog.Microseconds(), 10))
	}
	if len(fdNames) > 0 {
		env = append(env, "LISTEN_FDS="+strconv.Itoa(len(fdNames)), "LISTEN_FDNAMES="+strings.Join(fdNames, ":"))
	}
	for _, d := range []struct {
		name, root string
		dirs       []string
	}{
		{"STATE_DIRECTORY", l.cfg.StateRoot, l.unit.StateDirectory},
		{"RUNTIME_DIRECTORY", l.cfg.RuntimeRoot, l.unit.RuntimeDirectory},
	} {
		var paths []string
		for _, dir := range d.dirs {
			paths = append(paths, filepath.Join(d.root, dir))
		}
		if len(paths) > 0 {
			env = append(env, d.name+"="+strings.Join(paths, ":"))
		}
	}
	if len(l.unit.Credentials) > 0 {
		env = append(env, "CREDENTIALS_DIRECTORY="+l.credentialsDir())
	}
	return append(env, l.unit.Environment...)
}

// start runs cmd with its output in the log.
func (l *launcher) start(cmd *exec.Cmd) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe for output: %v", err)
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	p := &process{group: session{}}
	var oomBefore int64
	if l.cgroup != nil {
		p.group, oomBefore = l.cgroup, l.cgroup.oomKills()
	}
	if p.pid, p.exit, err = l.cfg.Reaper.Start(cmd); err != nil {
		r.Close()
		return nil, err
	}
	if l.cgroup == nil {
		p.group = session{p.pid}
	}
	p.signal = cmd.Process.Signal
	drained := make(chan struct{})
	go func() {
		defer l.cfg.Guard("output of " + l.unit.Name)
		defer close(drained)
		l.out.copy(r)
	}()
	p.finish = func() bool {
		if err := p.group.kill(); err != nil {
			l.cfg.Log.Warn("kill leftovers", "service", l.unit.Name, "err", err)
		}
		select {
		case <-drained:
		case <-time.After(time.Second): // somebody else holds the pipe
		}
		r.Close()
		<-drained
		l.removeTransient()
		return p.group.oomKills() > oomBefore
	}
	return p, nil
}

// gone says whether a signal failed because the process has ended.
func gone(err error) bool {
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}
