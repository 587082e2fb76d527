package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/rootfs"
)

// components turns the package list into what SBOM and provenance name.
func (l PackageList) components() ([]attest.Component, error) {
	var all []attest.Component
	for _, p := range l.Debian {
		all = append(all, attest.Debian(p.Name, p.Version, p.Arch, p.SHA256))
	}
	if l.Toolchain != "" {
		all = append(all, attest.GoToolchain(l.Toolchain))
	}
	for _, m := range l.Go {
		c, err := attest.GoModule(m.Path, m.Version, m.Sum)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// attestRoot signs how the programs in the root were made and puts that and
// the SBOM into it. Of root and kernel image, which hold these files, a second
// statement speaks, beside the image.
func (w *build) attestRoot(ctx context.Context) (string, error) {
	var subjects []attest.Subject
	for _, program := range []struct{ name, host string }{{layout.RootInit, w.in.Init}, {layout.RootServices, w.in.Services}} {
		sum, err := hashFile(program.host)
		if err != nil {
			return "", err
		}
		subjects = append(subjects, attest.Subject{Name: path.Base(program.name), Hash: "sha256", Hex: sum})
	}
	envelope, err := w.attest(ctx, subjects)
	if err != nil {
		return "", err
	}
	w.plan.root = append(w.plan.root,
		rootfs.Bytes(layout.RootSBOM, 0o644, w.plan.sbom), rootfs.Bytes(layout.RootProvenance, 0o644, envelope))
	return fmt.Sprintf("%d parts named", len(w.plan.components)), nil
}

// attestImage signs how root and kernel image were made, for the file beside
// the image. Disk and boot partition are no subject: they hold the site's own
// files too.
func (w *build) attestImage(ctx context.Context) (detail string, err error) {
	sum := sha256.Sum256(w.uki)
	subjects := []attest.Subject{
		{Name: layout.UKIName(w.plan.Release.Version), Hash: "sha256", Hex: hex.EncodeToString(sum[:])},
		{Name: "root", Hash: "dmVerity", Hex: hex.EncodeToString(w.tree.RootHash)},
	}
	for _, l := range w.loaders {
		sum := sha256.Sum256(l.Data)
		subjects = append(subjects, attest.Subject{Name: path.Base(l.Path), Hash: "sha256", Hex: hex.EncodeToString(sum[:])})
	}
	w.provenance, err = w.attest(ctx, subjects)
	return fmt.Sprintf("%d parts named", len(w.plan.components)), err
}

func (w *build) attest(ctx context.Context, subjects []attest.Subject) ([]byte, error) {
	statement, err := attest.Statement(w.plan.Release, w.in.Source, subjects, w.plan.components)
	if err != nil {
		return nil, err
	}
	return attest.Sign(ctx, statement, w.in.Keys)
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Names of the files beside an image.
const (
	SBOMSuffix       = ".sbom.spdx.json"
	ProvenanceSuffix = ".provenance.json"
)

// writeBeside writes a file beside the image, whole or not at all.
func (w *build) writeBeside(name string, data []byte) error {
	temp := w.out.Name() + path.Ext(name)
	defer os.Remove(temp) // does nothing after the rename
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o644); err != nil { // whatever the umask
		return err
	}
	return os.Rename(temp, name)
}
