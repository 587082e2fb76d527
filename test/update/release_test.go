// Package update shows that an update ends on the old version or the new one,
// whole, and that the box says which and why: in a model of loader and init
// that runs the real code over disks whose power is cut at every write, and in
// virtual machines.
package update

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/init/verity"
	"github.com/waysideos/wayside/services/manifest"
)

// conduct is how a release behaves once it is started.
type conduct string

const (
	works     conduct = "works"
	panics    conduct = "the kernel panics"
	hangs     conduct = "init hangs"
	stops     conduct = "a needed step fails"
	unhealthy conduct = "the health gate says no"
	silent    conduct = "nobody calls it good"
	unstarted conduct = "the firmware refuses it"
	rebooting conduct = "it asks for a reboot once, then works"
)

// release is a made-up one: a root of one block and a kernel image of a few
// clusters, which real code takes for real ones.
type release struct {
	version string
	counter uint64
	level   int // newest format it writes
	does    conduct

	root []byte // as it lies in the slot
	uki  []byte
	pin  verity.Pin
}

func makeRelease(t testing.TB, version string, counter uint64, level int, does conduct) *release {
	t.Helper()
	r := &release{version: version, counter: counter, level: level, does: does}
	r.makeRoot()
	osrel := fmt.Sprintf("ID=wayside\nNAME=Wayside\nPRETTY_NAME=\"Wayside %s\"\nVERSION_ID=\"%s\"\nIMAGE_VERSION=\"%d\"\n", version, version, counter)
	cmdline := fmt.Sprintf("%s=%x %s=%d %s=%s %s=%s %s=%d", layout.CmdRootHash, r.pin.RootHash, layout.CmdDataBlocks, r.pin.DataBlocks,
		layout.CmdVersion, version, layout.CmdBoard, "test-board", layout.CmdCounter, counter)
	var err error
	r.uki, err = uki.Build(imagetest.PE("stub"), []uki.Section{
		{Name: uki.OSRel, Data: []byte(osrel)}, {Name: uki.Cmdline, Data: []byte(cmdline)},
		{Name: uki.Linux, Data: []byte(strings.Repeat("kernel "+version, 700))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// makeRoot is one data block, its verity superblock and its one-block tree.
func (r *release) makeRoot() {
	p, le := make([]byte, 3*layout.VerityBlock), binary.LittleEndian
	copy(p, "root of "+r.version)
	leaf := sha256.Sum256(p[:layout.VerityBlock])
	copy(p[2*layout.VerityBlock:], leaf[:])
	hash := sha256.Sum256(p[2*layout.VerityBlock:])
	super := p[layout.VerityBlock:]
	copy(super, "verity")
	for off, v := range map[int]uint32{8: 1, 12: 1, 64: layout.VerityBlock, 68: layout.VerityBlock, 72: 1} {
		le.PutUint32(super[off:], v)
	}
	copy(super[32:], layout.VerityHash)
	r.root, r.pin = p, verity.Pin{RootHash: hash[:], DataBlocks: 1}
}

func (r *release) hash() string { return fmt.Sprintf("%x", r.pin.RootHash) }

func (r *release) activate() manifest.Activate {
	return manifest.Activate{Version: r.version, Counter: r.counter, RootHash: r.hash()}
}

// stage writes the release into a slot as the updater does: root, kernel
// image, and the header last.
func (r *release) stage(slot interface {
	WriteAt(p []byte, off int64) (int, error)
	Sync() error
}, size int64) error {
	head, err := manifest.Staged{
		Version: r.version, Counter: r.counter, Length: int64(len(r.uki)), SHA256: sha256.Sum256(r.uki), RootHash: [32]byte(r.pin.RootHash),
	}.Encode()
	if err != nil {
		return err
	}
	at := manifest.StagedOffset(size)
	for _, w := range []struct {
		off  int64
		data []byte
	}{{at, make([]byte, len(head))}, {0, r.root}, {at + manifest.StagedHeader, r.uki}, {at, head}} {
		if _, err := slot.WriteAt(w.data, w.off); err != nil {
			return err
		}
		if err := slot.Sync(); err != nil {
			return err
		}
	}
	return nil
}
