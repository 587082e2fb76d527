package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/publish"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/verity"
)

// metadata is what a box reads to learn of one release more: timestamp,
// snapshot and the list of all files of a repository with one board, of which
// so many releases were published and the newest keep ones are offered.
func metadata(t *testing.T, board string, releases, keep int) (size int64) {
	t.Helper()
	dir, now := t.TempDir(), time.Unix(1_780_000_000, 0)
	repo, keyDir := filepath.Join(dir, "repo"), filepath.Join(dir, "keys")
	if _, err := keys.Init(keyDir, keys.Options{}, nil, now); err != nil {
		t.Fatal(err)
	}
	for n := range releases {
		now = now.Add(7 * 24 * time.Hour)
		publishOne(t, repo, keyDir, board, n+1, keep, now)
	}
	// Versions follow the clock, so the newest is of now.
	for _, name := range []string{"timestamp.json", fmt.Sprint(now.Unix(), ".snapshot.json"), fmt.Sprint(now.Unix(), ".targets.json")} {
		size += int64(len(read(t, filepath.Join(repo, name))))
	}
	return size
}

// publishOne publishes a small release, with patches from those before.
func publishOne(t *testing.T, repo, keyDir, board string, n, keep int, now time.Time) {
	t.Helper()
	folder, err := keys.Open(keyDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := publish.Open(repo, folder, publish.Delta, now)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.WithPatches(10, func(format string, args ...any) {
		if strings.HasPrefix(format, "no patch") {
			t.Errorf(format, args...)
		}
	})
	root, err := keys.UpdateRoot(keyDir)
	if err != nil {
		t.Fatal(err)
	}
	const blocks = 20_000 // what it says; what it has is less
	content := bytes.Repeat([]byte(fmt.Sprintf("release %d ", n)), 1000)[:2*layout.VerityBlock]
	hash := sha256.Sum256(content)
	if _, err := r.Add(t.Context(), publish.Release{
		Target: release.Target{
			Format: release.TargetFormat, Kind: release.KindRelease, Board: board, Arch: "amd64", Version: fmt.Sprintf("1.%d.0", n),
			Counter: uint64(now.Unix()), RootHash: hex.EncodeToString(hash[:]), DataBlocks: blocks, RootBytes: verity.Size(blocks),
			UKIBytes: 33_000_000, Notes: strings.Repeat("what changed, in a few words; ", 7),
		},
		UKI: []byte(fmt.Sprintf("kernel %d", n)), Root: io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))),
		UpdateRoot: root, SBOM: []byte("{}"), Provenance: []byte("[]"),
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Tidy(keep); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestMetadata: what a box reads for one release more is bounded by how many
// are offered, however many there were.
func TestMetadata(t *testing.T) {
	few, many := metadata(t, "x86-64-uefi", 5, 4), metadata(t, "x86-64-uefi", 8, 4)
	t.Logf("%d bytes of metadata for 4 of 5 releases, %d for 4 of 8", few, many)
	// Of the three newest, each has patches from those before it that were there.
	if most := few + 1500; many > most || many > 10_000 {
		t.Errorf("4 releases take %d bytes, and %d after some more were published; want at most %d", few, many, min(most, 10_000))
	}
}
