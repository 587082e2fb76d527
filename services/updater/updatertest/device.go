package updatertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// Device is a slot of Front bytes before its staged area, of which only the
// first Back bytes are there: as large as a real one, and small enough to be
// cut a thousand times.
type Device struct {
	vfs.File
	Front, Back int64
}

// Size implements vfs.File.
func (d Device) Size() (int64, error) { return d.Front + manifest.StagedArea, nil }

// Devices is a folder of Devices.
type Devices struct {
	vfs.FS
	Front, Back int64
	// Locked says of which nothing may be written, as init does of the slot
	// that runs; nil for none.
	Locked func(name string) bool
}

// Open implements vfs.FS.
func (d Devices) Open(name string) (vfs.File, error) {
	if d.Locked != nil && d.Locked(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.OpenRead(name)
}

// OpenRead implements vfs.ReadOpener.
func (d Devices) OpenRead(name string) (vfs.File, error) {
	f, err := d.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return Device{f, d.Front, d.Back}, nil
}

// NewDevice makes the file of a device, filled with something.
func NewDevice(t testing.TB, fsys vfs.FS, name string, front, back int64) Devices {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	junk := make([]byte, front+back)
	fill(junk, 99)
	if _, err := f.WriteAt(junk, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	return Devices{FS: fsys, Front: front, Back: back}
}

func fill(b []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, seed))
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
}

// Release is one release's bytes.
type Release struct {
	Target  release.Target
	Content []byte // data blocks and verity superblock
	UKI     []byte
	SHA256  [32]byte // of UKI
}

// NewRelease makes a release of so many blocks.
func NewRelease(t testing.TB, version string, counter uint64, blocks int64, uki int) Release {
	t.Helper()
	r := Release{UKI: make([]byte, uki), Content: make([]byte, (blocks+1)*layout.VerityBlock)}
	fill(r.UKI, counter+1000)
	fill(r.Content[:blocks*layout.VerityBlock], counter)
	return r.seal(t, version, counter)
}

// Change makes a release that differs from r in one block, and in the end of
// its kernel image.
func Change(t testing.TB, r Release, version string, counter uint64, block int64) Release {
	t.Helper()
	r.Content, r.UKI = bytes.Clone(r.Content), bytes.Clone(r.UKI)
	fill(r.Content[block*layout.VerityBlock:][:layout.VerityBlock], counter)
	fill(r.UKI[len(r.UKI)-64:], counter)
	return r.seal(t, version, counter)
}

// seal computes what the content comes to.
func (r Release) seal(t testing.TB, version string, counter uint64) Release {
	t.Helper()
	blocks := int64(len(r.Content))/layout.VerityBlock - 1
	r.SHA256 = sha256.Sum256(r.UKI)
	f := &memory{}
	if _, err := f.WriteAt(r.Content, 0); err != nil {
		t.Fatal(err)
	}
	tree, err := verity.Append(context.Background(), f, blocks, verity.Params{Salt: []byte("salt")})
	if err != nil {
		t.Fatal(err)
	}
	copy(r.Content, f.b)
	r.Target = release.Target{Format: 1, Kind: release.KindRelease, Board: "b", Arch: "amd64", Version: version, Counter: counter,
		RootHash: hex.EncodeToString(tree.RootHash), DataBlocks: blocks, RootBytes: tree.Size, UKIBytes: int64(len(r.UKI)), PackBytes: int64(len(r.Content))}
	return r
}

// AddTo publishes the release.
func (r Release) AddTo(repo *Repo) {
	repo.t.Helper()
	var index, pack bytes.Buffer
	_, err := delta.Write(context.Background(), &index, &pack, r.contents()...)
	repo.must(err)
	repo.Add(r.Target.Path(release.TargetUKI), r.UKI, &r.Target)
	repo.Add(r.Target.Path(release.TargetIndex), index.Bytes(), nil)
	repo.Add(r.Target.Path(release.TargetPack), pack.Bytes(), nil)
}

// memory is a file that grows.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.b[off:]), nil }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := off + int64(len(p)); need > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, need-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}

// DropCache implements vfs.CacheDropper.
func (d Device) DropCache(off, n int64) error { return d.File.(vfs.CacheDropper).DropCache(off, n) }
