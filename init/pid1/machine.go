//go:build linux

package pid1

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/clock"
	"github.com/waysideos/wayside/init/modules"
	"github.com/waysideos/wayside/init/network"
	"github.com/waysideos/wayside/init/profile"
	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/supervise"
	"github.com/waysideos/wayside/init/trial"
	"github.com/waysideos/wayside/init/uevent"
	"github.com/waysideos/wayside/init/vault"
	"github.com/waysideos/wayside/init/watchdog"
	"github.com/waysideos/wayside/services/claim"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// Machine is what the steps share. Steps run one after the other; what other
// goroutines read as well is behind mu or atomic.
type Machine struct {
	log    atomic.Pointer[slog.Logger]
	Feeder *watchdog.Feeder
	resort *lastResort
	booted time.Time
	spent  *spent

	// background ends at shutdown, after the services; owned waits for what
	// runs under it.
	background context.Context
	stop       context.CancelFunc
	owned      sync.WaitGroup

	cmd       cmdline
	hang      string // phase that shall hang: see fwcfg.go
	phase     string
	modules   atomic.Pointer[modules.Loader]
	firmware  gate // the firmware's variables can be read, or never will be
	listed    gate // what the board lists for the root is loaded
	mountable gate // so is what it lists for other file systems
	devices   gate // all devices that were there have their drivers
	ahead     gate // nothing starts services ahead any more
	armed     gate // the hardware watchdog is armed, if there is one
	ready     gate // all services have been ready
	listener  *uevent.Listener
	buttons   atomic.Pointer[buttons]
	reaper    *reap.Reaper
	requests  chan request

	slot    *slots.Slot // the booted one
	disk    string
	role    string
	install *site.Install // this disk is an installer
	nodes   map[layout.Role]string
	state   bool       // the state partition is mounted
	esp     sync.Mutex // the boot partition is mounted, or changed
	trial   atomic.Pointer[trial.Keeper]

	turned    atomic.Int64 // when the main loop last made progress, as time after booted
	removable removable    // what is wanted of removable disks

	secureBoot string         // see readTrust
	pcrs       map[int]string // likewise; never changed once set
	vault      *vault.Vault
	encryption string // see vault.How

	claim    *claim.Claim      // in force; nil for none
	profile  *profile.Result   // at the start of the box
	secrets  map[string][]byte // files by name; never changed once set
	changer  *profile.Changer  // knows what it is now; nil without a profile
	network  *network.Network
	clock    *clock.Clock
	units    []manifest.Unit   // of the release
	sockets  []manifest.Socket // likewise
	services *supervise.Supervisor
	served   chan error      // ends of services.Run
	serving  context.Context // the services stop when it ends, first of all
	endServe context.CancelFunc

	mu        sync.Mutex
	dog       *watchdog.Device
	problems  []string
	verity    string
	attaching sync.Mutex
}

// newMachine starts what lives as long as the process: the feeder.
func newMachine(phase string) *Machine {
	m := &Machine{phase: phase, booted: time.Now(), spent: newSpent(), requests: make(chan request, 8), served: make(chan error, 1), verity: "off",
		firmware: make(gate), listed: make(gate), mountable: make(gate), devices: make(gate), ahead: make(gate), armed: make(gate), ready: make(gate)}
	m.log.Store(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	m.background, m.stop = context.WithCancel(context.Background())
	m.serving, m.endServe = context.WithCancel(context.Background())
	m.Feeder = watchdog.NewFeeder(slog.New(relay{m}))
	m.resort = &lastResort{
		log: m.Log, lease: m.Feeder.Last, release: m.release,
		note: m.noteFailure, sync: unix.Sync, reboot: reboot, forever: func() { select {} },
		delay: 10 * time.Second, limit: 15 * time.Second,
	}
	m.reaper = reap.New(slog.New(relay{m}))
	return m
}

// Log is the logger of the moment: the kernel log once it can be opened.
func (m *Machine) Log() *slog.Logger { return m.log.Load() }

// relay lets what is made early log through what is opened later.
type relay struct{ m *Machine }

func (r relay) Enabled(ctx context.Context, l slog.Level) bool {
	return r.m.Log().Enabled(ctx, l)
}
func (r relay) Handle(ctx context.Context, rec slog.Record) error {
	return r.m.Log().Handler().Handle(ctx, rec)
}
func (r relay) WithAttrs(a []slog.Attr) slog.Handler { return r.m.Log().Handler().WithAttrs(a) }
func (r relay) WithGroup(g string) slog.Handler      { return r.m.Log().Handler().WithGroup(g) }

// Go runs do until it returns; shutdown waits for it. A panic is PID 1's own
// and ends in the failure path; an error is a problem.
func (m *Machine) Go(name string, do func(ctx context.Context) error) {
	m.owned.Go(func() {
		defer m.lastly(name)
		if err := do(m.background); err != nil && m.background.Err() == nil {
			m.problem(fmt.Sprintf("%s: %v", name, err))
		}
	})
}

// forever runs do as long as the process lives.
func (m *Machine) forever(name string, do func()) {
	go func() {
		defer m.lastly(name)
		do()
	}()
}

// lastly is deferred in every goroutine of PID 1, those of its packages
// included: a panic must not end it.
func (m *Machine) lastly(name string) {
	if r := recover(); r != nil {
		m.resort.fail(name+" panicked", fmt.Sprintf("%v\n%s", r, debug.Stack()))
	}
}

// problem is something that a technician should know of and that does not
// keep the box from its work.
func (m *Machine) problem(what string) {
	m.Log().Warn(what)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, what)
}

// Box is the machine as GET /status shows it.
func (m *Machine) Box() manifest.Box {
	m.mu.Lock()
	box := manifest.Box{
		Version: m.cmd[layout.CmdVersion], Board: m.cmd[layout.CmdBoard], Slot: m.role,
		Epoch: m.cmd.epoch().Unix(), Verity: m.verity, SecureBoot: m.secureBoot, PCRs: m.pcrs, Encryption: m.encryption, Problems: slices.Clone(m.problems),
	}
	if m.dog != nil {
		box.Watchdog = m.dog.Identity
	}
	m.mu.Unlock()
	if box.Version == "" {
		box.Version = m.runs().Version
	}
	if l := m.modules.Load(); l != nil {
		box.MissingModules = l.Missing()
	}
	if k := m.trial.Load(); k != nil {
		box.Problems = append(box.Problems, k.Problems()...)
	}
	// The clock may have been set since the boot: count back from now.
	up := uptime()
	box.Uptime = up.Seconds()
	box.Booted = time.Now().Add(-up)
	box.Kernel = kernelRelease()
	box.Disks = disks(layout.MountState, layout.MountData)
	box.Memory = memory("/proc/meminfo")
	switch {
	case m.changer != nil:
		box.Profile = m.changer.Report()
	case m.profile != nil:
		box.Profile = m.profile.Report
	}
	if m.claim != nil {
		box.Claim = &manifest.Claim{Name: m.claim.Name, Issued: m.claim.Issued}
	}
	if m.services != nil {
		box.Services = m.services.Status()
	}
	if m.network != nil {
		box.Network = m.network.Status()
	}
	if m.clock != nil {
		box.Clock = m.clock.Status()
	}
	return box
}

// runs is the running release's own word on itself, from the verified root.
func (m *Machine) runs() (r struct {
	Version string `json:"version"`
	Counter uint64 `json:"counter"`
	Board   string `json:"board"`
	Arch    string `json:"arch"`
}) {
	if b, err := os.ReadFile(layout.RootRelease); err == nil {
		_ = json.Unmarshal(b, &r)
	}
	return r
}

func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// disks measures the mount points among dirs.
func disks(dirs ...string) []manifest.Disk {
	var out []manifest.Disk
	for _, dir := range dirs {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil || st.Type != unix.EXT4_SUPER_MAGIC {
			continue
		}
		out = append(out, manifest.Disk{Mount: dir, Total: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize})
	}
	return out
}
