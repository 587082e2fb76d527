package manifest

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// key is one assignment that a kind of unit understands. The tables below
// are the subset; docs/formats/units.md is tested against them.
type key[T any] struct {
	section, name string
	doc           string // one line for docs/formats/units.md
	set           func(*T, value) error
}

// unitKeys are the keys of .service files, grouped by section.
var unitKeys = []key[Unit]{
	{"Unit", "Description", "one line for people", text(func(u *Unit) *string { return &u.Description })},
	{"Unit", "After", "services that must be ready, or have failed, before the first start", names(serviceSuffix, func(u *Unit) *[]string { return &u.After })},
	{"Unit", "Requires", "services that must be ready before the first start; a later failure of theirs changes nothing", names(serviceSuffix, func(u *Unit) *[]string { return &u.Requires })},

	{"Service", "ExecStart", "absolute path of the program and its arguments, once", setExec},
	{"Service", "Type", "`simple` (the default, ready when it runs) or `notify` (ready at READY=1)", choice(func(u *Unit) *Type { return &u.Type }, Simple, Notify)},
	{"Service", "User", "user to run as; default root", account(func(u *Unit) *string { return &u.User })},
	{"Service", "Group", "group to run as; default the user's", account(func(u *Unit) *string { return &u.Group })},
	{"Service", "SupplementaryGroups", "further groups", list(func(u *Unit) *[]string { return &u.SupplementaryGroups }, checkAccount)},
	{"Service", "Restart", "`no` (the default), `on-failure` or `always`", choice(func(u *Unit) *Restart { return &u.Restart }, RestartNo, RestartOnFailure, RestartAlways)},
	{"Service", "RestartSec", "delay before a restart, doubled by each failure in a row; default 100ms", span(func(u *Unit) *time.Duration { return &u.RestartDelay })},
	{"Service", "RestartMaxDelaySec", "where the doubling ends; a service that ran ready that long begins anew; default 1min", span(func(u *Unit) *time.Duration { return &u.RestartMaxDelay })},
	{"Service", "X-StartAhead", "the first process is started before the box is ready for it, and waits; see below; default no", boolean(func(u *Unit) *bool { return &u.StartAhead })},
	{"Service", "TimeoutStartSec", "longest wait for READY=1; default 90s, 0 and `infinity` wait for ever", span(func(u *Unit) *time.Duration { return &u.TimeoutStart })},
	{"Service", "TimeoutStopSec", "from TERM to KILL; default 90s, 0 and `infinity` wait for ever", span(func(u *Unit) *time.Duration { return &u.TimeoutStop })},
	{"Service", "WatchdogSec", "longest silence between WATCHDOG=1; then ABRT, KILL and a restart; needs Type=notify", span(func(u *Unit) *time.Duration { return &u.Watchdog })},
	{"Service", "MemoryMax", "hard memory limit, the service is killed beyond", size(func(u *Unit) *int64 { return &u.MemoryMax })},
	{"Service", "MemoryHigh", "memory beyond which the service is slowed and reclaimed", size(func(u *Unit) *int64 { return &u.MemoryHigh })},
	{"Service", "CPUWeight", "share of the processor under contention, 1 to 10000; default 100", integer(1, 10000, func(u *Unit, n int64) { u.CPUWeight = int(n) })},
	{"Service", "TasksMax", "most processes and threads, or `infinity`", size(func(u *Unit) *int64 { return &u.TasksMax })},
	{"Service", "StateDirectory", "directories below /var/lib, made for the user and kept", list(func(u *Unit) *[]string { return &u.StateDirectory }, checkSubdirectory)},
	{"Service", "StateDirectoryMode", "their mode; default 0755", mode(func(u *Unit) *fs.FileMode { return &u.StateDirectoryMode })},
	{"Service", "RuntimeDirectory", "directories below /run, made for the user, removed when the service ends", list(func(u *Unit) *[]string { return &u.RuntimeDirectory }, checkSubdirectory)},
	{"Service", "RuntimeDirectoryMode", "their mode; default 0755", mode(func(u *Unit) *fs.FileMode { return &u.RuntimeDirectoryMode })},
	{"Service", "Environment", "`KEY=value` words", list(func(u *Unit) *[]string { return &u.Environment }, checkAssignment)},
	{"Service", "LoadCredential", "`ID:/path`: the service reads a copy as $CREDENTIALS_DIRECTORY/ID", setCredential},
	{"Service", "AmbientCapabilities", "capabilities that a user other than root keeps", setAmbient},
	{"Service", "CapabilityBoundingSet", "all capabilities the service can ever have; empty is none", setBounding},
	{"Service", "NoNewPrivileges", "no setuid program gives the service more than it has", boolean(func(u *Unit) *bool { return &u.NoNewPrivileges })},
	{"Service", "LimitNOFILE", "most open files", integer(1, 1<<30, func(u *Unit, n int64) { u.LimitNOFILE = uint64(n) })},
	{"Service", "OOMScoreAdjust", "-1000 (killed last) to 1000 (first) when the whole box runs out of memory", integer(-1000, 1000, func(u *Unit, n int64) { u.OOMScoreAdjust = int(n) })},
	{"Service", "Sockets", "socket units to hand over besides those that name the service", names(socketSuffix, func(u *Unit) *[]string { return &u.Sockets })},
}

// socketKeys are the keys of .socket files, grouped by section.
var socketKeys = []key[Socket]{
	{"Unit", "Description", "one line for people", text(func(s *Socket) *string { return &s.Description })},

	{"Socket", "ListenStream", "port (all addresses, IPv4 and IPv6), address:port, or path of a Unix socket; may repeat", list(func(s *Socket) *[]string { return &s.Listen }, checkListen)},
	{"Socket", "FileDescriptorName", "name in LISTEN_FDNAMES; default the file's name", text(func(s *Socket) *string { return &s.FDName })},
	{"Socket", "Service", "service that gets the socket; default the one of the same name", setService},
	{"Socket", "SocketUser", "owner of a Unix socket; default root", account(func(s *Socket) *string { return &s.User })},
	{"Socket", "SocketGroup", "group of a Unix socket; default root", account(func(s *Socket) *string { return &s.Group })},
	{"Socket", "SocketMode", "mode of a Unix socket; default 0666", mode(func(s *Socket) *fs.FileMode { return &s.Mode })},
}

func text[T any](field func(*T) *string) func(*T, value) error {
	return func(t *T, v value) (err error) {
		*field(t), err = v.expand(v.text)
		return err
	}
}

func account[T any](field func(*T) *string) func(*T, value) error {
	return func(t *T, v value) error {
		*field(t) = v.text
		if v.text == "" {
			return nil
		}
		return checkAccount(v.text)
	}
}

func choice[V ~string](field func(*Unit) *V, choices ...V) func(*Unit, value) error {
	return func(u *Unit, v value) error {
		if !slices.Contains(choices, V(v.text)) {
			var all []string
			for _, c := range choices {
				all = append(all, string(c))
			}
			return fmt.Errorf("must be %s, not %q", strings.Join(all, " or "), v.text)
		}
		*field(u) = V(v.text)
		return nil
	}
}

func span(field func(*Unit) *time.Duration) func(*Unit, value) error {
	return func(u *Unit, v value) (err error) {
		*field(u), err = v.span()
		return err
	}
}

func size(field func(*Unit) *int64) func(*Unit, value) error {
	return func(u *Unit, v value) (err error) {
		*field(u), err = v.size()
		return err
	}
}

func boolean(field func(*Unit) *bool) func(*Unit, value) error {
	return func(u *Unit, v value) (err error) {
		*field(u), err = v.boolean()
		return err
	}
}

func integer(low, high int64, set func(*Unit, int64)) func(*Unit, value) error {
	return func(u *Unit, v value) error {
		n, err := v.integer(low, high)
		if err == nil {
			set(u, n)
		}
		return err
	}
}

func mode[T any](field func(*T) *fs.FileMode) func(*T, value) error {
	return func(t *T, v value) error {
		n, err := strconv.ParseUint(v.text, 8, 16)
		if err != nil || n > 0o777 {
			return fmt.Errorf("must be an octal mode up to 0777, not %q", v.text)
		}
		*field(t) = fs.FileMode(n)
		return nil
	}
}

// list appends the words of each assignment; an empty one starts anew.
func list[T any](field func(*T) *[]string, check func(string) error) func(*T, value) error {
	return func(t *T, v value) error {
		if v.text == "" {
			*field(t) = nil
			return nil
		}
		words, err := v.words()
		if err != nil {
			return err
		}
		for _, w := range words {
			if err := check(w); err != nil {
				return err
			}
		}
		*field(t) = append(*field(t), words...)
		return nil
	}
}

// names is list for units of one kind, kept without their suffix.
func names(suffix string, field func(*Unit) *[]string) func(*Unit, value) error {
	return func(u *Unit, v value) error {
		words := []string{}
		err := list(func(*Unit) *[]string { return &words }, func(w string) error {
			if !strings.HasSuffix(w, suffix) {
				return fmt.Errorf("%q must end with %s", w, suffix)
			}
			return checkUnitName(strings.TrimSuffix(w, suffix))
		})(u, v)
		if err != nil {
			return err
		}
		if v.text == "" {
			*field(u) = nil
		}
		for _, w := range words {
			*field(u) = append(*field(u), strings.TrimSuffix(w, suffix))
		}
		return nil
	}
}

func setExec(u *Unit, v value) error {
	words, err := v.words()
	if err != nil {
		return err
	}
	if len(words) == 0 {
		u.ExecStart = nil
		return nil
	}
	if u.ExecStart != nil {
		return fmt.Errorf("stands twice; a service has one program")
	}
	if strings.Contains(v.text, "$") {
		return fmt.Errorf("variables are not replaced, $ is refused")
	}
	u.ExecStart = words
	return cleanAbsolute(words[0])
}

func setCredential(u *Unit, v value) error {
	if v.text == "" {
		u.Credentials = nil
		return nil
	}
	s, err := v.expand(v.text)
	if err != nil {
		return err
	}
	id, file, ok := strings.Cut(s, ":")
	if !ok || id == "" || id == "." || id == ".." || strings.Contains(id, "/") {
		return fmt.Errorf("must be ID:/path, not %q", s)
	}
	u.Credentials = append(u.Credentials, Credential{ID: id, Path: file})
	return cleanAbsolute(file)
}

func setAmbient(u *Unit, v value) (err error) {
	u.AmbientCapabilities, err = capabilities(u.AmbientCapabilities, v)
	return err
}

func setBounding(u *Unit, v value) (err error) {
	u.LimitBounding = true
	u.BoundingSet, err = capabilities(u.BoundingSet, v)
	return err
}

func capabilities(have []Capability, v value) ([]Capability, error) {
	if v.text == "" {
		return nil, nil
	}
	for _, w := range strings.Fields(v.text) {
		c, err := parseCapability(w)
		if err != nil {
			return nil, err
		}
		have = append(have, c)
	}
	return have, nil
}

func setService(s *Socket, v value) error {
	name, ok := strings.CutSuffix(v.text, serviceSuffix)
	if !ok {
		return fmt.Errorf("%q must end with %s", v.text, serviceSuffix)
	}
	s.Service = name
	return checkUnitName(name)
}

func checkAccount(s string) error {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return fmt.Errorf("a user or group is written with a-z, 0-9, - and _, not %q", s)
		}
	}
	return nil
}

func checkSubdirectory(s string) error {
	if !fs.ValidPath(s) || s == "." {
		return fmt.Errorf("must be a relative path without detours, not %q", s)
	}
	return nil
}

func checkAssignment(s string) error {
	name, _, ok := strings.Cut(s, "=")
	if !ok || name == "" || strings.ContainsAny(name, " \t\n") {
		return fmt.Errorf("must be KEY=value words, not %q", s)
	}
	return nil
}

func checkListen(s string) error {
	if path.IsAbs(s) {
		return cleanAbsolute(s)
	}
	port := s
	if addr, err := netip.ParseAddrPort(s); err == nil {
		port = strconv.Itoa(int(addr.Port()))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("must be a port, address:port or an absolute path, not %q", s)
	}
	return nil
}
