//go:build linux

package pid1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/supervise"
	"github.com/waysideos/wayside/init/trial"
	"github.com/waysideos/wayside/services/manifest"
)

// openTrial finds out whether this boot is a trial. It fails only when the
// running version must not go on.
func openTrial(_ context.Context, m *Machine) error {
	store, err := m.store()
	if err != nil {
		m.problem(err.Error())
		m.tellLevel()
		return nil
	}
	r, panicked := m.runs(), panicked()
	k, err := trial.Open(trial.Config{
		Store: store, State: m.stateFS(), Log: m.Log(), Level: manifest.FormatLevel,
		Running: trial.Release{Version: r.Version, Counter: r.Counter, RootHash: strings.ToLower(m.cmd[layout.CmdRootHash])},
		Board:   r.Board, Arch: r.Arch, Signed: secureBoot(mount.EFIVars), Other: m.otherSlot,
		ResetCause: func() string { return m.resetCause(panicked) }, Tail: lastLog, Now: time.Now, Hopeless: m.noUpdater,
		Install: func() error { return m.installLoader(r.Arch) },
		Reboot:  func(reason string) { m.request(actionReboot, reason) },
	})
	m.trial.Store(k)
	m.giveSlots()
	m.tellLevel()
	return err
}

// installLoader takes the boot loader out of the verified root. The boot manager
// comes first: the guard of before starts the new one as well, and so does the
// new guard the old one, should the power go between.
func (m *Machine) installLoader(arch string) error {
	names := []string{layout.BootManager(arch), path.Join(layout.ESPLoader, layout.LoaderFile(arch))}
	if m.cmd[layout.CmdBoot] == layout.BootUBoot {
		names = layout.UBootFiles
	}
	var files []slots.LoaderFile
	for _, name := range names {
		content, err := os.ReadFile(path.Join(layout.RootLoader, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		files = append(files, slots.LoaderFile{Path: name, Content: content})
	}
	if len(files) == 0 {
		return slots.Refusal("this release carries none")
	}
	changed, err := slots.Partition{ESP: m.rawESP}.Install(files, time.Now())
	m.Log().Info("boot loader", "renewed", strings.Join(changed, " "))
	return err
}

// secureBoot says whether the firmware checks signatures.
func secureBoot(efivars string) bool {
	b, err := os.ReadFile(efivars + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	return err == nil && len(b) == 5 && b[4] == 1
}

// other is the slot that does not run.
func (m *Machine) other() layout.Role {
	if m.role == string(layout.RootA) {
		return layout.RootB
	}
	return layout.RootA
}

func (m *Machine) otherSlot() (io.ReaderAt, int64, func() error, error) {
	node, ok := m.nodes[m.other()]
	if !ok || m.role == "" {
		return nil, 0, nil, slots.Refusal("the disk has no second slot")
	}
	f, err := os.Open(node)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("open the other slot: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, 0, nil, fmt.Errorf("measure the other slot: %w", err)
	}
	return f, size, f.Close, nil
}

// giveSlots lets the updater read the running slot, and write the other while
// nothing depends on what it holds.
func (m *Machine) giveSlots() {
	gid := m.updaterGID()
	k := m.trial.Load()
	if gid < 0 || k == nil {
		return
	}
	for _, role := range []layout.Role{layout.RootA, layout.RootB} {
		node, ok := m.nodes[role]
		if !ok {
			continue
		}
		mode := os.FileMode(0o640)
		if role == m.other() && k.Writable() {
			mode = 0o660
		}
		if err := errors.Join(os.Chown(node, 0, gid), os.Chmod(node, mode)); err != nil {
			m.problem(fmt.Sprintf("let the updater at %s: %v", node, err))
		}
	}
}

// updaterUID is the account of the updater, -1 in an image without one.
func (m *Machine) updaterUID() int { return account(func(u *user.User) string { return u.Uid }) }
func (m *Machine) updaterGID() int { return account(func(u *user.User) string { return u.Gid }) }

func account(id func(*user.User) string) int {
	u, err := user.Lookup(manifest.UpdaterUser)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(id(u))
	if err != nil {
		return -1
	}
	return n
}

// rawESP opens the boot partition, which must not be mounted.
func (m *Machine) rawESP(use func(d gpt.Disk, size int64) error) (err error) {
	m.esp.Lock()
	defer m.esp.Unlock()
	node, ok := m.nodes[layout.ESP]
	if !ok {
		return errors.New("the boot partition is not known")
	}
	// O_EXCL keeps it from being mounted meanwhile.
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("open the boot partition: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("measure the boot partition: %w", err)
	}
	return use(rawDisk{f}, size)
}

// rawDisk forgets what it has written, so that what is read back comes from
// the disk.
type rawDisk struct{ *os.File }

func (d rawDisk) Sync() error {
	if err := d.File.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// tellLevel tells services how new the formats are that they may write. Whether
// a boot of which nothing is known is a trial is not known either.
func (m *Machine) tellLevel() {
	level := manifest.LevelFirst
	if k := m.trial.Load(); k != nil {
		level = k.Level()
	}
	next := manifest.FormatLevelFile + ".new"
	err := os.WriteFile(next, []byte(strconv.Itoa(level)+"\n"), 0o644)
	if err == nil {
		err = os.Rename(next, manifest.FormatLevelFile)
	}
	if err != nil {
		m.problem(fmt.Sprintf("tell services the format level %d: %v", level, err))
	}
}

// updaterRestarts is how often the updater may fall in one boot before nobody
// waits for its word on a trial any more.
const updaterRestarts = 5

// noUpdater says why the updater will not decide on a trial.
func (m *Machine) noUpdater() string {
	for _, s := range m.services.Status() {
		if s.Name == manifest.UpdaterUser && (s.Restarts >= updaterRestarts || s.State == string(supervise.Failed)) {
			return fmt.Sprintf("the updater, which was to judge this version, does not stay up: restarted %d times (last exit: %s)", s.Restarts, s.LastExit)
		}
	}
	return ""
}

func (m *Machine) runTrial(ctx context.Context) error {
	k := m.trial.Load()
	if k == nil {
		return nil
	}
	k.Reached("services started")
	window := trial.DefaultWindow
	if m.profile != nil {
		window = time.Duration(m.profile.Profile.Update.TrialMinutes) * time.Minute
	}
	return k.Run(ctx, window)
}

// servicesReady commits a trial of a release without an updater: nobody else
// would ever call it good.
func (m *Machine) servicesReady(context.Context) error {
	k := m.trial.Load()
	if k == nil {
		return nil
	}
	if !k.OnTrial() {
		return m.testActivate(k)
	}
	k.Reached("all services ready")
	for _, s := range m.services.Status() {
		if s.Name == manifest.UpdaterUser {
			return nil
		}
	}
	err := k.Commit(manifest.Commit{Checks: []manifest.Check{{Name: "services", OK: true, Detail: "all were ready; this release has no updater"}}})
	m.giveSlots()
	m.tellLevel()
	return err
}

// testActivate does what a test asks for through the hypervisor.
func (m *Machine) testActivate(k *trial.Keeper) error {
	item, err := fwcfgItem(fwcfgActivate)
	if err != nil || item == "" {
		return err
	}
	if err := with((*trial.Keeper).Activate)(k, []byte(item)); err != nil {
		return fmt.Errorf("activate on request of the hypervisor: %w", err)
	}
	m.giveSlots()
	m.request(actionReboot, "activated on request of the hypervisor")
	return nil
}

func (m *Machine) noteFailure(reason string) {
	if k := m.trial.Load(); k != nil {
		k.Failing(reason)
	}
}

func (m *Machine) giveBack() {
	k := m.trial.Load()
	if k == nil {
		return
	}
	if err := k.GiveBack(); err != nil {
		m.Log().Warn("give the try back", "err", err)
	}
}

// update is what the API can do with versions, by verb.
func (m *Machine) update() map[string]func(body []byte) error {
	verbs := map[string]func(*trial.Keeper, []byte) error{
		"activate": with((*trial.Keeper).Activate),
		// Services go on for a while when PID 1 hangs, and all of them are well:
		// such a version must not be kept.
		"commit": func(k *trial.Keeper, body []byte) error {
			if err := m.turning(); err != nil {
				return err
			}
			return with((*trial.Keeper).Commit)(k, body)
		},
		"fail":   with((*trial.Keeper).Fail),
		"retry":  with((*trial.Keeper).Retry),
		"cancel": func(k *trial.Keeper, _ []byte) error { return k.Cancel() },
	}
	out := map[string]func([]byte) error{}
	for name, do := range verbs {
		out[name] = func(body []byte) error {
			k := m.trial.Load()
			if k == nil {
				return errors.New("init is not that far yet")
			}
			defer m.tellLevel()
			defer m.giveSlots()
			return do(k, body)
		}
	}
	return out
}

// with reads the body that a verb wants.
func with[T any](do func(*trial.Keeper, T) error) func(*trial.Keeper, []byte) error {
	return func(k *trial.Keeper, body []byte) error {
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return slots.Refusal(fmt.Sprintf("the request is not readable: %v", err))
		}
		return do(k, v)
	}
}

// slotsNow is the answer to GET /update.
func (m *Machine) slotsNow() manifest.Slots {
	k := m.trial.Load()
	if k == nil {
		return manifest.Slots{Problems: []string{"init is not that far yet"}}
	}
	s := k.Slots()
	s.Running.Role, s.Other.Role = m.role, string(m.other())
	for _, slot := range []*manifest.Slot{&s.Running, &s.Other} {
		slot.Device = m.nodes[layout.Role(slot.Role)]
		slot.Size = deviceSize(slot.Device)
	}
	m.describeOther(&s)
	s.Removable = removables()
	return s
}

// describeOther says which version the other slot holds, if the boot partition
// has a kernel image for it.
func (m *Machine) describeOther(s *manifest.Slots) {
	store, err := m.store()
	if err != nil {
		return
	}
	b, err := store.Look()
	if err != nil {
		return
	}
	for _, e := range b.Entries {
		if e.Broken == "" && e.Ours() && !strings.EqualFold(e.Image.RootHash, s.Running.RootHash) {
			s.Other.Version, s.Other.Counter, s.Other.RootHash = e.Image.Version, e.Image.Counter, e.Image.RootHash
			return
		}
	}
}

func deviceSize(node string) int64 {
	f, err := os.Open(node)
	if err != nil {
		return 0
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0
	}
	return size
}
