//go:build linux

// Package become is what a process that init has just started does to itself
// before it becomes a service. Some things can be done only there, where Go runs
// no code of ours between fork and exec: lower its limits, drop its capabilities,
// write its own pid into LISTEN_PID. So init starts itself under the name Name.
//
// All of it happens while the program is initialised, before main and before
// most packages: Go initialises a package as soon as what it imports is, in
// the order of paths, and this one imports syscall alone. To set up all that init
// is made of, once for each start of a service, took longer than most services.
package become

import "syscall"

// Name is the argv[0] of a process that is to become something else. What
// follows are orders, done in their order, until "--"; then the path of the
// program, and its arguments. Nothing of it is secret.
const Name = "wayside-exec"

// Orders. Those that end in = have a value: decimal numbers, with commas where
// there are several, or a set of capabilities as bits.
const (
	NOFILE     = "nofile="   // RLIMIT_NOFILE, soft and hard
	OOMScore   = "oom="      // oom_score_adj
	Bound      = "bound="    // capabilities that stay in the bounding set
	Groups     = "groups="   // supplementary groups, all of them
	Keep       = "keep-caps" // over the change of user
	User       = "user="     // uid and gid
	Ambient    = "ambient="  // capabilities that survive exec without root
	NoNewPrivs = "no-new-privs"
	ListenPID  = "listen-pid"   // descriptors from 3 on are LISTEN_FDS
	WatchPID   = "watchdog-pid" // WATCHDOG_USEC is for the program
)

// exitCode is systemd's EXIT_EXEC: the program was never started.
const exitCode = 203

func init() {
	words := split(read("/proc/self/cmdline"), 0)
	if len(words) == 0 || words[0] != Name {
		return
	}
	what, err := become(words[1:])
	_, _ = syscall.Write(2, []byte(Name+": "+what+": "+err.Error()+"\n"))
	syscall.Exit(exitCode)
}

// become returns only with an error, and what it was about.
func become(words []string) (what string, err error) {
	syscall.Umask(0o022)
	env := syscall.Environ()
	for i, w := range words {
		if w == "--" && i+1 < len(words) {
			program := words[i+1:]
			return "execute " + program[0], syscall.Exec(program[0], program, env)
		}
		switch w {
		case ListenPID:
			env = append(env, "LISTEN_PID="+decimal(syscall.Getpid()))
			continue
		case WatchPID:
			env = append(env, "WATCHDOG_PID="+decimal(syscall.Getpid()))
			continue
		}
		if err := obey(w); err != nil {
			return w, err
		}
	}
	return "is started by init only", syscall.EINVAL
}

func obey(order string) error {
	switch order {
	case Keep:
		return prctl(syscall.PR_SET_KEEPCAPS, 1, 0)
	case NoNewPrivs:
		return prctl(prSetNoNewPrivs, 1, 0)
	}
	at := 0
	for at < len(order) && order[at] != '=' {
		at++
	}
	if at == len(order) {
		return syscall.EINVAL
	}
	name, text := order[:at+1], order[at+1:]
	if name == OOMScore { // may be negative; the kernel reads it
		return write("/proc/self/oom_score_adj", text)
	}
	values, err := numbers(text)
	switch {
	case err != nil:
		return err
	case name == Groups:
		return syscall.Setgroups(values)
	case name == User && len(values) == 2:
		if err := syscall.Setresgid(values[1], values[1], values[1]); err != nil {
			return err
		}
		return syscall.Setresuid(values[0], values[0], values[0])
	case len(values) != 1:
		return syscall.EINVAL
	case name == NOFILE:
		// By package syscall, whose Exec otherwise restores the limit that the
		// runtime found at its start.
		return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(values[0]), Max: uint64(values[0])})
	case name == Bound:
		return limit(uint64(values[0]))
	case name == Ambient:
		return ambient(uint64(values[0]))
	}
	return syscall.EINVAL
}
