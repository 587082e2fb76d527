//go:build linux

package supervise

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/manifest"
)

// group is where the processes of one service live.
type group interface {
	// fd is an open cgroup directory to clone a process into, or -1.
	fd() int
	// holds says whether pid is one of its processes.
	holds(pid int) bool
	// kill ends all its processes and waits a moment until they are gone.
	kill() error
	memory() int64   // bytes in use; 0 if unknown
	oomKills() int64 // processes killed for want of memory, ever
}

// cgroupParent is the cgroup that holds one child for each service.
const cgroupParent = "wayside"

// controllers that limits need.
var controllers = []string{"memory", "cpu", "pids"}

// openCgroups makes the parent below the cgroup2 mount at root and hands the
// controllers down. The error names those that are not there; the directory
// is usable nevertheless when it exists.
func openCgroups(root string) (dir string, err error) {
	dir = filepath.Join(root, cgroupParent)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cgroup: %v", err)
	}
	var problems []error
	for _, c := range controllers {
		for _, d := range []string{root, dir} {
			if err := writeFile(d, "cgroup.subtree_control", "+"+c); err != nil {
				problems = append(problems, fmt.Errorf("enable controller: %v", err))
			}
		}
	}
	return dir, errors.Join(problems...)
}

// cgroup is a group backed by cgroup v2 (Documentation/admin-guide/cgroup-v2).
type cgroup struct {
	dir  string
	path string // as /proc/<pid>/cgroup gives it, relative to the mount
	file *os.File
}

func openCgroup(parent, name string) (*cgroup, error) {
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup of %s: %v", name, err)
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup of %s: %v", name, err)
	}
	return &cgroup{dir: dir, path: "/" + cgroupParent + "/" + name, file: f}, nil
}

// limit sets what the unit declares. A limit that cannot be set is an error,
// but does not keep the others from being set.
func (c *cgroup) limit(u *manifest.Unit) error {
	limits := []struct {
		file  string
		value int64
	}{
		{"memory.max", u.MemoryMax},
		{"memory.high", u.MemoryHigh},
		{"cpu.weight", int64(u.CPUWeight)},
		{"pids.max", u.TasksMax},
	}
	var problems []error
	for _, l := range limits {
		if l.value > 0 {
			problems = append(problems, writeFile(c.dir, l.file, strconv.FormatInt(l.value, 10)))
		}
	}
	if u.MemoryMax > 0 {
		// One victim of several processes would leave the service crippled.
		problems = append(problems, writeFile(c.dir, "memory.oom.group", "1"))
	}
	return errors.Join(problems...)
}

func (c *cgroup) fd() int { return int(c.file.Fd()) }

func (c *cgroup) close() error { return c.file.Close() }

func (c *cgroup) holds(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false // ended meanwhile
	}
	for line := range strings.Lines(string(text)) {
		path, v2 := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if v2 && (path == c.path || strings.HasPrefix(path, c.path+"/")) {
			return true
		}
	}
	return false
}

func (c *cgroup) kill() error {
	if c.event("cgroup.events", "populated") == 0 {
		return nil
	}
	if err := writeFile(c.dir, "cgroup.kill", "1"); err != nil {
		return err
	}
	for range 100 { // KILL takes effect in its own time
		if c.event("cgroup.events", "populated") == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("processes in %s outlive KILL", c.dir)
}

func (c *cgroup) memory() int64 {
	text, err := os.ReadFile(filepath.Join(c.dir, "memory.current"))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

func (c *cgroup) oomKills() int64 { return c.event("memory.events", "oom_kill") }

// event reads one number of a flat keyed file; 0 if it is not there.
func (c *cgroup) event(file, key string) int64 {
	text, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if k, v, _ := strings.Cut(lines.Text(), " "); k == key {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// writeFile writes to a file that the kernel made; it never makes one.
func writeFile(dir, name, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// session stands in for a cgroup where there is none: the processes that
// stayed in the session of the service's main process.
type session struct{ leader int }

func (session) fd() int              { return -1 }
func (s session) holds(pid int) bool { return pid == s.leader }
func (session) memory() int64        { return 0 }
func (session) oomKills() int64      { return 0 }

func (s session) kill() error {
	if s.leader <= 1 {
		return nil
	}
	if err := unix.Kill(-s.leader, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill session %d: %v", s.leader, err)
	}
	return nil
}
