package update

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

// genericBoards are those for hardware, which know USB.
var genericBoards = map[string]string{"amd64": "x86-64-uefi", "arm64": "arm64-uefi"}

// stickProfile has a box of a site without network take what is plugged in.
const stickProfile = "version: 1\nsite: offline\nupdate:\n  sources: [usb]\n  auto: install\n  settle_seconds: 5\n  trial_minutes: 4\n"

// TestStick goes through what happens to a box without network, board for
// hardware, as sticks are plugged in while it runs: one that was altered and one
// that is pulled out in the middle of it change nothing, a good one is asked for
// nothing and installed, an old copy of it is refused. The page says each.
func TestStick(t *testing.T) {
	harness.NeedVM(t)
	needMatrix(t)
	board := genericBoards[harness.Arch(t)]
	one, two := buildFor(t, board, "0.1.0", 10), buildFor(t, board, "0.2.0", 20)
	u := &updates{t: t, machine: first(t, one), repo: t.TempDir()}
	harness.PutOnBootPartition(t, u.disk, layout.ESPSite, []byte(stickProfile))
	u.publish(one)
	old := writeStick(t, u.repo, nil)
	u.publish(two)
	altered := writeStick(t, u.repo, func(name string, data []byte) []byte {
		if strings.HasSuffix(name, ".root.pack") {
			return spoil(data)
		}
		return data
	})
	u.takeBack(two)
	u.publish(two)
	good := writeStick(t, u.repo, nil)
	u.start(nil, longAgo, usbPort, noUplink)
	u.runs("0.1.0")

	begin := time.Now()
	lap := func(what, page string) {
		t.Helper()
		t.Logf("%-46s %3.0f s  %s", what, time.Since(begin).Seconds(), page)
		begin = time.Now()
	}
	u.plug("altered", altered, 0)
	lap("a stick whose release is altered by a bit", u.pageSays("0.1.0", "not what was signed"))
	u.unplug("altered")

	u.plug("hasty", good, 200_000)
	u.Eventually(harness.BootTime, "the box reads the release from the stick", func(context.Context) error {
		if s, err := u.state(); err != nil || s.Step != "downloading" {
			return fmt.Errorf("does %q, %v", s.Step, err)
		}
		return nil
	})
	u.unplug("hasty")
	lap("a stick that is pulled out while it is read", u.pageSays("0.1.0", "wayside-repo: read targets/"))

	u.plug("good", good, 0)
	u.kept("0.2.0")
	lap("a good stick: verified, installed and kept", u.pageSays("0.2.0", "Last update"))
	u.unplug("good")

	u.plug("old", old, 0)
	lap("a stick that is an old copy", u.pageSays("0.2.0", "older than"))
	u.PowerOff()
	u.check()
}

// pageSays waits until the status page of a box, which runs a version, holds a
// text, and returns what it says of the matter.
func (u *updates) pageSays(version, text string) (line string) {
	u.t.Helper()
	harness.Eventually(u.t, harness.BootTime, "the page says "+text, func(ctx context.Context) error {
		page := u.Get("/")
		s, err := u.state()
		if err != nil {
			return err
		}
		if s.Running != version || s.Trial != nil || version == "0.1.0" && s.Last != nil {
			u.t.Fatalf("the box runs %s, trial %+v, last %+v; want %s", s.Running, s.Trial, s.Last, version)
		}
		if !strings.Contains(page, text) {
			return fmt.Errorf("phase %s, problem %q", s.Phase, s.Problem)
		}
		line = s.Problem
		return nil
	})
	return line
}

// kept waits until a version is committed, without a word from outside.
func (u *updates) kept(version string) {
	u.t.Helper()
	u.Eventually(3*harness.BootTime, version+" is kept", func(context.Context) error {
		s, err := u.state()
		if err == nil && (s.Last == nil || s.Last.Version != version) {
			err = fmt.Errorf("runs %s, phase %s, problem %q", s.Running, s.Phase, s.Problem)
		}
		if err == nil && !s.Last.Committed {
			u.t.Fatalf("%s failed its trial: %+v", version, s.Last)
		}
		return err
	})
}

// usbPort gives the machine a port to plug sticks in.
func usbPort(c *qemu.Config) { c.Extra = append(c.Extra, "-device", "qemu-xhci,id=usb") }

// noUplink has nothing beyond the machine answer; the test still reaches it.
func noUplink(c *qemu.Config) { c.Isolated = true }

// plug puts a stick in, and unplug pulls it out. limit is how many bytes a
// second it gives at most, 0 for no limit.
func (m *machine) plug(id, file string, limit int) {
	m.t.Helper()
	m.qmp("object-add", fmt.Sprintf(`{"qom-type":"throttle-group","id":"limit-%s","limits":{"bps-total":%d}}`, id, limit))
	m.qmp("blockdev-add", fmt.Sprintf(`{"driver":"raw","node-name":"%s","read-only":true,"file":
		{"driver":"throttle","throttle-group":"limit-%s","read-only":true,"file":{"driver":"file","filename":"%s","read-only":true}}}`, id, id, file))
	m.qmp("device_add", fmt.Sprintf(`{"driver":"usb-storage","id":"dev-%s","drive":"%s","bus":"usb.0","removable":true}`, id, id))
}

func (m *machine) unplug(id string) {
	m.t.Helper()
	m.qmp("device_del", fmt.Sprintf(`{"id":"dev-%s"}`, id))
}

func (m *machine) qmp(command, args string) {
	m.t.Helper()
	if err := m.QMP(m.t.Context(), command, json.RawMessage(args), nil); err != nil {
		m.t.Fatalf("%s: %v", command, err)
	}
}

// writeStick makes a stick with a copy of a repository, of which change alters
// the files.
func writeStick(t *testing.T, repo string, change func(name string, data []byte) []byte) string {
	t.Helper()
	var files []disk.FATFile
	size := int64(64 << 20)
	err := filepath.WalkDir(repo, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(repo, name)
		if change != nil {
			data = change(name, data)
		}
		size += int64(len(data)) + 64<<10
		files = append(files, disk.FATFile{Path: filepath.ToSlash(filepath.Join("wayside-repo", rel)), Data: data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "stick.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size -= size % (1 << 20)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFAT(f, disk.FATVolume{Size: size, Label: "STICK"}, files); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
