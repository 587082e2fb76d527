//go:build linux

package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/manifest"
)

// ExecName is the argv[0] by which init's binary knows that it is to be the
// exec shim: main calls ExecMain then, before anything else.
const ExecName = "wayside-exec"

// exitShim is systemd's EXIT_EXEC: the program was never started.
const exitShim = 203

// execSpec is what the shim does to itself before it becomes the service. It
// is passed as JSON in argv[1] and holds nothing secret.
type execSpec struct {
	Args            []string
	SetUser         bool
	UID, GID        int
	Groups          []int
	Ambient         []manifest.Capability
	Bounding        []manifest.Capability
	LimitBounding   bool
	NoNewPrivileges bool
	NOFILE          uint64
	OOMScoreAdjust  int
	Sockets         bool // descriptors from 3 on are LISTEN_FDS
	Watchdog        bool
}

// ExecMain is the exec shim; args is os.Args. Some things a process can only
// do to itself between fork and exec, where Go runs no code of ours: write its
// own pid into LISTEN_PID, lower its limits, drop its capabilities. So init
// starts itself under the name ExecName, which does these and then becomes the
// service under the same pid. It does not return; an error goes to stderr,
// which is the service's log.
func ExecMain(args []string) {
	// Capabilities and no_new_privs belong to a thread; exec takes those of
	// the thread that calls it.
	runtime.LockOSThread()
	err := becomeService(args)
	fmt.Fprintf(os.Stderr, "%s: %v\n", ExecName, err)
	os.Exit(exitShim)
}

func becomeService(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("is started by init only")
	}
	var spec execSpec
	if err := json.Unmarshal([]byte(args[1]), &spec); err != nil {
		return fmt.Errorf("read what to start: %v", err)
	}
	unix.Umask(0o022)
	for _, step := range []struct {
		name string
		do   func(execSpec) error
	}{
		{"set limits", setLimits},
		{"limit capabilities", dropBounding},
		{"change user", changeUser},
		{"keep capabilities", raiseAmbient},
		{"set no_new_privs", setNoNewPrivileges},
	} {
		if err := step.do(spec); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	err := syscall.Exec(spec.Args[0], spec.Args, environment(spec, os.Environ()))
	return fmt.Errorf("execute %s: %w", spec.Args[0], err)
}

// environment adds what only this process knows: its pid.
func environment(spec execSpec, env []string) []string {
	pid := strconv.Itoa(os.Getpid())
	if spec.Sockets {
		env = append(env, "LISTEN_PID="+pid)
	}
	if spec.Watchdog {
		env = append(env, "WATCHDOG_PID="+pid)
	}
	return env
}

func setLimits(spec execSpec) error {
	if spec.NOFILE > 0 {
		// syscall, not unix: its Exec otherwise restores the limit that the
		// Go runtime found at start.
		limit := syscall.Rlimit{Cur: spec.NOFILE, Max: spec.NOFILE}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return fmt.Errorf("LimitNOFILE: %w", err)
		}
	}
	if spec.OOMScoreAdjust != 0 {
		return writeFile("/proc/self", "oom_score_adj", strconv.Itoa(spec.OOMScoreAdjust))
	}
	return nil
}

// dropBounding takes every capability out of the bounding set that is neither
// in Bounding nor unknown to this kernel.
func dropBounding(spec execSpec) error {
	if !spec.LimitBounding {
		return nil
	}
	keep := map[manifest.Capability]bool{}
	for _, c := range spec.Bounding {
		keep[c] = true
	}
	for c := manifest.Capability(0); c < 64; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil || has == 0 || keep[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	return nil
}

func changeUser(spec execSpec) error {
	if !spec.SetUser {
		return nil
	}
	if len(spec.Ambient) > 0 {
		if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := syscall.Setgroups(spec.Groups); err != nil {
		return fmt.Errorf("groups %v: %w", spec.Groups, err)
	}
	if err := syscall.Setresgid(spec.GID, spec.GID, spec.GID); err != nil {
		return fmt.Errorf("group %d: %w", spec.GID, err)
	}
	if err := syscall.Setresuid(spec.UID, spec.UID, spec.UID); err != nil {
		return fmt.Errorf("user %d: %w", spec.UID, err)
	}
	return nil
}

// raiseAmbient makes capabilities survive exec without root
// (capabilities(7), "Ambient"): they must be permitted and inheritable.
func raiseAmbient(spec execSpec) error {
	if len(spec.Ambient) == 0 {
		return nil
	}
	var data [2]unix.CapUserData
	for _, c := range spec.Ambient {
		bit := uint32(1) << (c % 32)
		data[c/32].Effective |= bit
		data[c/32].Permitted |= bit
		data[c/32].Inheritable |= bit
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("permit: %w", err)
	}
	for _, c := range spec.Ambient {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fmt.Errorf("%v: %w", c, err)
		}
	}
	return nil
}

func setNoNewPrivileges(spec execSpec) error {
	if !spec.NoNewPrivileges {
		return nil
	}
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}
