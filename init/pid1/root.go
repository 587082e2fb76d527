//go:build linux

package pid1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/clock"
	"github.com/waysideos/wayside/init/firstboot"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/network"
	"github.com/waysideos/wayside/init/profile"
	"github.com/waysideos/wayside/init/status"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// Root is the sequence from the verified root to running services. Drivers of
// what a box needs besides are loaded meanwhile; see beside.go.
var Root = []Step{
	{"work beside", besideRoot, false, 5 * time.Second},
	{"mounts", mountRoot, true, 10 * time.Second},
	{"services ahead", startAhead, false, 10 * time.Second},
	{"firmware's word", readTrust, false, 10 * time.Second},
	{"power button", watchButtons, false, 5 * time.Second},
	{"hypervisor's items", copyAdvertised, false, 5 * time.Second},
	// A stick that installs stays as it was written.
	{"look for an installation", lookForInstall, false, 20 * time.Second},
	{"installation", installIfAsked, true, 12 * time.Hour},
	{"partitions", partition, false, 60 * time.Second},
	{"encryption", openVault, false, 120 * time.Second},
	{"state partition", mountState, false, 120 * time.Second},
	{"recovery key", keepRecovery, false, 20 * time.Second},
	{"data partition", mountData, false, 180 * time.Second},
	{"end of encryption", closeVault, false, 20 * time.Second},
	{"clock", startClock, false, 5 * time.Second},
	// Before anything that may write what the version before cannot read.
	{"trial", openTrial, true, 60 * time.Second},
	{"claim", loadClaim, false, 150 * time.Second}, // may wait for all drivers, see rootBeside
	{"site profile", loadProfile, false, 30 * time.Second},
	{"hardware clock", addClock, false, 100 * time.Second},
	{"site secrets", loadSecrets, false, 30 * time.Second},
	{"network", startNetwork, false, 10 * time.Second},
	{"removable disks", watchRemovable, false, 5 * time.Second},
	{"services", startServices, true, 30 * time.Second},
	{"changes of the site profile", watchProfile, false, 5 * time.Second},
	// Last: the answers read what all other steps have set. Nobody is told of a
	// box whose drivers are still looked for, a judge of a trial least of all.
	{"status", serveStatus, false, 5 * time.Second},
}

func mountRoot(_ context.Context, m *Machine) error {
	m.verityState()
	if err := mount.All(m.Log(), mount.Root); err != nil {
		return err
	}
	return os.MkdirAll(manifest.RunDir, 0o755)
}

func partition(_ context.Context, m *Machine) error {
	if m.disk == "" {
		return errors.New("the disk that was booted is not known")
	}
	nodes, problems, err := firstboot.Partitions(m.Log(), m.disk)
	m.nodes = nodes
	for _, p := range problems {
		m.problem(p)
	}
	return err
}

func mountState(_ context.Context, m *Machine) error {
	err := m.volume(layout.State, layout.MountState, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME)
	m.state = err == nil
	if err != nil {
		return err
	}
	// It holds the box's identity, and is made readable for all.
	st, err := os.Stat(layout.MountState)
	if err == nil && st.Mode().Perm() != 0o700 {
		err = os.Chmod(layout.MountState, 0o700)
	}
	return err
}

func mountData(_ context.Context, m *Machine) error {
	return m.volume(layout.Data, layout.MountData, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME)
}

// volume mounts one writable partition. Without it nothing takes its place:
// a broker that acknowledges what only memory holds would be worse than none.
func (m *Machine) volume(role layout.Role, target string, flags uintptr) error {
	node, ok := m.nodes[role]
	if !ok {
		return fmt.Errorf("the disk has no %s partition: nothing can be kept in %s", role, target)
	}
	node, err := m.decrypted(role, node)
	if err != nil {
		return err
	}
	if err := m.need("ext4"); err != nil {
		return err
	}
	return firstboot.Volume(m.Log(), role, node, target, flags)
}

// stateFS is the state partition, nil if it could not be mounted.
func (m *Machine) stateFS() vfs.FS {
	if !m.state {
		return nil
	}
	return vfs.OS(layout.MountState)
}

func loadProfile(_ context.Context, m *Machine) error {
	r, err := profile.Load(profile.Config{Log: m.Log(), State: m.stateFS(), Own: m.claim.Own(), Boot: m.bootProfile})
	if err != nil {
		return err
	}
	m.profile = r
	return writeSite(r)
}

// writeSite has services read r.
func writeSite(r *profile.Result) error {
	next := manifest.SiteFile + ".new"
	if err := os.WriteFile(next, r.Text, 0o644); err != nil {
		return fmt.Errorf("write the effective profile: %w", err)
	}
	return os.Rename(next, manifest.SiteFile)
}

// bootProfile reads the site profile from the boot partition.
func (m *Machine) bootProfile() (text []byte, err error) {
	err = m.withESP(func(dir string) error {
		text, err = readAtMost(filepath.Join(dir, filepath.FromSlash(layout.ESPSite)), site.MaxSize+1)
		return err
	})
	return text, err
}

// withESP mounts the boot partition while read runs.
func (m *Machine) withESP(read func(dir string) error) error {
	m.esp.Lock()
	defer m.esp.Unlock()
	node, ok := m.nodes[layout.ESP]
	if !ok {
		return errors.New("the boot partition is not known")
	}
	// The kernel would ask for the code pages itself, by another process.
	if err := errors.Join(m.need("nls_cp437"), m.need("nls_ascii"), m.need("vfat")); err != nil {
		return err
	}
	return mount.WithESP(node, read)
}

// loadSecrets gives services the files that the profile names. One that the
// claim brought counts over one of the same name: it is signed, and the box's own.
func loadSecrets(_ context.Context, m *Machine) error {
	files, problems := profile.LoadSecrets(profile.SecretsConfig{Log: m.Log(), State: m.stateFS(), Boot: m.bootSecrets})
	for _, p := range problems {
		m.problem(p)
	}
	if m.claim != nil && len(m.claim.Secrets) > 0 {
		files = maps.Clone(files)
		if files == nil {
			files = map[string][]byte{}
		}
		maps.Copy(files, m.claim.Secrets)
	}
	m.secrets = files
	effective := &site.Profile{}
	if m.profile != nil {
		effective = m.profile.Profile
	}
	return m.giveSecrets(profile.Readers, effective)
}

// giveSecrets has readers find what they need under a profile.
func (m *Machine) giveSecrets(readers []profile.Reader, p *site.Profile) error {
	if len(m.secrets) == 0 {
		return nil
	}
	for _, r := range readers {
		uid, gid, err := r.Owner()
		if err == nil {
			err = profile.Expose(r.Dir, uid, gid, r.Pick(p, m.secrets))
		}
		if err != nil {
			return fmt.Errorf("give secrets to %s%s: %v", r.Group, r.User, err)
		}
	}
	return nil
}

// bootSecrets reads the secret files from the boot partition.
func (m *Machine) bootSecrets() (files map[string][]byte, err error) {
	err = m.withESP(func(dir string) error {
		files, err = profile.ReadSecrets(os.DirFS(dir))
		return err
	})
	return files, err
}

// readAtMost reads the first most bytes of a file: anybody may have put
// anything there, and PID 1 must not run out of memory over it.
func readAtMost(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

func serveStatus(_ context.Context, m *Machine) error {
	m.Go("status", func(ctx context.Context) error {
		if err := m.devices.wait(ctx); err != nil {
			return err
		}
		return status.Serve(ctx, manifest.InitSocket, m.api())
	})
	return nil
}

// api is what the box's own API speaks for.
func (m *Machine) api() status.Config {
	return status.Config{
		Box: m.Box, Log: m.Log(),
		Reboot: func(reason string) { m.request(actionReboot, reason) },
		Slots:  m.slotsNow,
		Update: m.update(), Site: m.site(), Updater: m.updaterUID(),
		PowerOff: func(reason string) { m.request(actionPowerOff, reason) },
	}
}

func startClock(_ context.Context, m *Machine) error {
	m.clock = clock.New(clock.Config{FS: m.stateFS(), Epoch: m.cmd.epoch(), Servers: m.timeServers, Log: m.Log(), Guard: m.lastly})
	return m.clock.Floor()
}

// addClock finds the clock that the profile tells of.
func addClock(ctx context.Context, m *Machine) error {
	if m.profile == nil || m.profile.Profile.Hardware.Clock == nil {
		return nil
	}
	if err := m.devices.wait(ctx); err != nil { // its bus has a driver, too
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := clock.AddChip(ctx, "/sys", *m.profile.Profile.Hardware.Clock); err != nil {
		return err
	}
	return m.clock.Floor()
}

func (m *Machine) timeServers() []string {
	if m.network == nil {
		return nil
	}
	return m.network.NTPServers()
}

func startNetwork(_ context.Context, m *Machine) error {
	if m.profile == nil {
		return errors.New("there is no profile")
	}
	n := m.testNetwork(m.profile.Profile.Network)
	m.network = network.New(network.Config{
		Profile: n, Hostname: n.Hostname, Log: m.Log(), Guard: m.lastly,
		ResolvConf: filepath.Join(manifest.RunDir, "resolv.conf"),
	})
	m.Go("network", m.network.Run)
	m.Go("clock", func(ctx context.Context) error {
		if err := m.devices.wait(ctx); err != nil {
			return err
		}
		// A hardware clock whose driver is a module has set the time when it came.
		return errors.Join(m.clock.Floor(), m.clock.Run(ctx))
	})
	return nil
}
