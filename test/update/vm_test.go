package update

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

// built is a release as an image holds it.
type built struct {
	harness.Image
	activate manifest.Activate
	uki      []byte
	root     []byte // with its hash tree
}

var builds = struct {
	sync.Mutex
	done map[string]*built
}{done: map[string]*built{}}

// build makes an image of this source as the given version.
func build(t *testing.T, version string, counter uint64) *built {
	t.Helper()
	return buildFor(t, harness.Board, version, counter)
}

func buildFor(t *testing.T, board, version string, counter uint64) *built {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if b := builds.done[board+version]; b != nil {
		return b
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	b := buildWith(t, harness.Command(t), filepath.Join(cache, "wayside", "test", "releases", board, version), board, version, counter)
	builds.done[board+version] = b
	return b
}

// buildWith has the tool that cmd runs build a release into a folder.
func buildWith(t *testing.T, cmd *exec.Cmd, dir, board, version string, counter uint64) *built {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Args = append(cmd.Args, "build", "--json", "--board", board, "--keys", keyDir(t), "--version", version, "--counter", strconv.FormatUint(counter, 10), "--out", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("wayside build of %s: %v\n%s", version, err, stderr.Bytes())
	}
	b := &built{}
	if err := json.Unmarshal(out, &b.Image); err != nil {
		t.Fatalf("wayside build --json printed %q: %v", out, err)
	}
	b.read(t)
	b.activate = manifest.Activate{Version: version, Counter: counter, RootHash: b.RootHash}
	return b
}

// keyDir holds the development keys of these tests, which are made on first
// use: those of whoever runs them may be of a kind that signs no updates.
func keyDir(t *testing.T) string { return filepath.Join(harness.CacheDir(t), "keys") }

// read takes kernel image and root out of the image.
func (b *built) read(t *testing.T) {
	t.Helper()
	esp := harness.OpenPartition(t, b.Path, layout.ESP)
	v, err := disk.OpenFAT(esp, esp.Info.Size)
	if err != nil {
		t.Fatal(err)
	}
	files, err := v.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Path, layout.ESPUKIDir+"/") {
			if b.uki, err = v.ReadFile(f.Path); err != nil {
				t.Fatal(err)
			}
		}
	}
	im, err := slots.ReadImage(bytes.NewReader(b.uki))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := strconv.ParseInt(im.DataBlocks, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	b.root = make([]byte, verity.Size(blocks))
	if _, err := harness.OpenPartition(t, b.Path, layout.RootA).ReadAt(b.root, 0); err != nil {
		t.Fatal(err)
	}
}

// alter changes the kernel image's command line, which breaks its signature:
// without Secure Boot nobody looks.
func (b *built) alter(t *testing.T, from, to string) *built {
	t.Helper()
	if len(to) > len(from) {
		t.Fatalf("%q does not fit in the place of %q", to, from)
	}
	sections, err := uki.Sections(b.uki)
	if err != nil {
		t.Fatal(err)
	}
	old := uki.Find(sections, uki.Cmdline)
	fresh := bytes.Replace(old, []byte(from), []byte(to+strings.Repeat(" ", len(from)-len(to))), 1)
	if bytes.Equal(old, fresh) {
		t.Fatalf("the command line %q does not hold %q", old, from)
	}
	c := *b
	c.uki = bytes.Replace(b.uki, old, fresh, 1)
	return &c
}

// stage writes the release into slot B of a disk at rest, as the updater does.
func (b *built) stage(t *testing.T, file string, role layout.Role) {
	t.Helper()
	slot := harness.OpenPartition(t, file, role)
	root, err := hex.DecodeString(b.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	head, err := manifest.Staged{
		Version: b.activate.Version, Counter: b.activate.Counter, Length: int64(len(b.uki)), SHA256: sha256.Sum256(b.uki), RootHash: [32]byte(root),
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	at := manifest.StagedOffset(slot.Info.Size)
	for off, data := range map[int64][]byte{0: b.root, at: head, at + manifest.StagedHeader: b.uki} {
		if _, err := slot.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
}

// machine is a box whose disk can be looked at when it is off.
type machine struct {
	*harness.Box
	t    *testing.T
	disk string
	img  harness.Image
}

// first boots the old version once, for its partitions, and switches it off.
func first(t *testing.T, old *built) *machine {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(cache, "wayside", "test", "releases", old.Board, old.activate.Version+"-"+old.RootHash[:16]+".raw")
	m := &machine{t: t, disk: filepath.Join(t.TempDir(), "disk.raw"), img: old.Image}
	if _, err := os.Stat(ready); err != nil {
		m.start(nil)
		m.WaitReady()
		m.PowerOff()
		harness.Tool(t, "cp", "--sparse=always", m.disk, ready+".new")
		if err := os.Rename(ready+".new", ready); err != nil {
			t.Fatal(err)
		}
		return m
	}
	harness.Tool(t, "cp", "--sparse=always", ready, m.disk)
	return m
}

// start switches the machine on with items for its hypervisor's table.
func (m *machine) start(items map[string]string, mods ...func(*qemu.Config)) {
	m.t.Helper()
	m.Box = harness.Boot(m.t, m.img, append(mods, func(c *qemu.Config) {
		if c.Disk == qemu.DiskOverlay {
			c.Disk = qemu.DiskCopy
		}
		c.DiskFile, c.FWCfg = m.disk, items
	})...)
}

// items ask for the activation of a release, and perhaps hurt it.
func items(r *built, hurt ...string) map[string]string {
	a, _ := json.Marshal(r.activate)
	out := map[string]string{"opt/io.wayside/test.activate": string(a)}
	for i := 0; i+1 < len(hurt); i += 2 {
		out["opt/io.wayside/test."+hurt[i]] = hurt[i+1]
	}
	return out
}

// entries are the kernel images on the boot partition of a disk at rest.
func (m *machine) entries() []string {
	m.t.Helper()
	esp := harness.OpenPartition(m.t, m.disk, layout.ESP)
	v, err := disk.OpenFAT(esp, esp.Info.Size)
	if err != nil {
		m.t.Fatal(err)
	}
	files, err := v.List()
	if err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if name, found := strings.CutPrefix(f.Path, layout.ESPUKIDir+"/"); found {
			out = append(out, name)
		}
	}
	return out
}

// check has foreign tools look at the disk of a box that is off.
func (m *machine) check() {
	m.t.Helper()
	out, err := exec.Command("sh", "-c", "PATH=$PATH:/sbin:/usr/sbin fsck.vfat -n "+harness.Extract(m.t, m.disk, layout.ESP)).CombinedOutput()
	if err != nil {
		m.t.Errorf("fsck.vfat: %v\n%s", err, out)
	}
}

// runs waits until the box is ready and wants it to run a version.
func (m *machine) runs(version string) {
	m.t.Helper()
	m.WaitReady()
	s, err := m.Status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if s.Box.Version != version {
		m.t.Fatalf("the box runs %s, want %s", s.Box.Version, version)
	}
}

// produceConsume writes a record with kcat and returns what is read back.
func (m *machine) produceConsume() string {
	m.t.Helper()
	addr := m.Addr("kafka")
	harness.CreateTopic(m.t, addr, "readings", 1)
	harness.Kcat(m.t, addr, "a reading\n", "-P", "-t", "readings", "-X", "acks=all")
	records := harness.ReadAll(m.t, addr, "readings")
	if len(records) != 1 {
		m.t.Fatalf("got %d records, want the one that was written", len(records))
	}
	return string(records[0].Value)
}

// soon is a profile that has the updater keep a version when all has been well
// for 5 s, not 60.
const soon = "version: 1\nsite: soon\nupdate:\n  auto: \"off\"\n  settle_seconds: 5\n"

// TestUpdate is the good path, twice, and the way back to the first slot.
func TestUpdate(t *testing.T) {
	harness.NeedVM(t)
	one, two := build(t, "0.1.0", 10), build(t, "0.2.0", 20)
	m := first(t, one)
	harness.PutOnBootPartition(t, m.disk, layout.ESPSite, []byte(soon))
	two.stage(t, m.disk, layout.RootB)
	m.start(items(two))
	m.Expect(harness.BootTime, `update: version 0\.2\.0 is tried at the next boot`)
	m.Expect(harness.BootTime, `update: version 0\.2\.0 is on trial`)
	m.Expect(harness.BootTime, `update: version 0\.2\.0 committed`)
	m.runs("0.2.0")
	m.PowerOff()
	m.check()
	if got := fmt.Sprint(m.entries()); got != "[wayside-0.1.0.efi wayside-0.2.0.efi]" {
		t.Errorf("got kernel images %s", got)
	}
}

// shortWatchdog has the hardware wait for a third of the time: what a test of
// three resets spends most of its time on. It takes the place of words that the
// machine does without.
func (b *built) shortWatchdog(t *testing.T) *built {
	return b.alter(t, "net.ifnames=0 panic=1", "wayside.watchdog=10")
}

// TestFaults hurts the new version in ways that a box must come back from.
func TestFaults(t *testing.T) {
	harness.NeedVM(t)
	one, two := build(t, "0.1.0", 10), build(t, "0.2.0", 20)
	for _, f := range []struct {
		name  string
		new   *built
		items map[string]string
		want  string // on the console of the old version
	}{
		{"kernel panic before init", two.alter(t, layout.CmdEpoch+"=1", "rdinit=/none "), items(two), `failed its trial.*died before init.*tries=3`},
		// Before a step of little time: its lease has to end before the watchdog's does.
		{"init hangs in the initramfs", two.shortWatchdog(t), items(two, "hang", "initramfs:listed modules@0.2.0"), `failed its trial.*died before init`},
	} {
		t.Run(f.name, func(t *testing.T) {
			m := first(t, one)
			f.new.stage(t, m.disk, layout.RootB)
			m.start(f.items)
			m.Expect(harness.BootTime, `update: version 0\.2\.0 is tried at the next boot`)
			m.Expect(3*harness.BootTime, f.want)
			m.runs("0.1.0")
			if got := m.produceConsume(); got != "a reading" {
				t.Errorf("the broker gave back %q", got)
			}
			m.PowerOff()
			m.check()
		})
	}
}
