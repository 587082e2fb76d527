//go:build linux

package supervise

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/manifest"
)

// cgroupMount returns where cgroup2 is mounted, with controllers or without.
func cgroupMount(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making cgroups needs root")
	}
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Skip("no cgroup2 is mounted")
	return ""
}

// A process that left the service's session is still found by its cgroup.
func TestLeftoversAreKilled(t *testing.T) {
	mount := cgroupMount(t)
	u := childUnit("leftovers", "leave")
	u.Type, u.Restart = manifest.Simple, manifest.RestartNo
	b := newBench(t, mount, nil, u)
	b.until("end", func(s manifest.Service) bool { return s.State == "failed" })
	b.stop()
	pid, ok := strings.CutPrefix(b.Lines("leftovers")[0], "<nil> ")
	if !ok {
		t.Fatalf("got %q, want a process", b.Lines("leftovers"))
	}
	// Its parent is gone, so somebody else reaps it: a zombie is dead enough.
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("process %s is still there: %s", pid, stat)
	}
	if err := os.Remove(mount + "/wayside/leftovers"); err != nil {
		t.Errorf("the cgroup is not empty: %v", err)
	}
	os.Remove(mount + "/wayside")
}

func TestOutOfMemoryIsSaid(t *testing.T) {
	mount := cgroupMount(t)
	controllers, _ := os.ReadFile(mount + "/cgroup.controllers")
	if !strings.Contains(string(controllers), "memory") {
		t.Skip("cgroup2 has no memory controller here")
	}
	u := childUnit("greedy", "greedy")
	u.Type, u.Restart = manifest.Simple, manifest.RestartNo
	u.MemoryMax = 32 << 20
	b := newBench(t, mount, nil, u)
	s := b.until("end", func(s manifest.Service) bool { return s.State == "failed" })
	if want := "killed: out of memory (limit 32M)"; s.LastExit != want {
		t.Errorf("got last exit %q, want %q", s.LastExit, want)
	}
	b.stop()
	os.Remove(mount + "/wayside/greedy")
	os.Remove(mount + "/wayside")
}
