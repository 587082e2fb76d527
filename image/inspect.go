package image

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/secureboot"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/image/verity"
)

// Report is what an image says of itself.
type Report struct {
	Size       int64            `json:"size_bytes"`
	DiskGUID   string           `json:"disk_guid"`
	Partitions []disk.Partition `json:"partitions"`
	Files      []BootFile       `json:"boot_files"` // of the boot partition
	Kernels    []KernelImage    `json:"kernel_images"`
	Root       *RootReport      `json:"root,omitempty"`
	Release    *release.Release `json:"release,omitempty"`
	Packages   *PackageList     `json:"packages,omitempty"`
	// UpdateRoot is the version of the TUF root that the image trusts at
	// first; 0 if it takes no updates.
	UpdateRoot int64 `json:"update_root,omitempty"`
	// Provenance tells of the statement in the root: whether the certificates
	// given have signed it.
	Provenance *SignatureReport `json:"provenance,omitempty"`

	sbom, provenance []byte
	// Problems are what could not be read or does not fit, in words. An image
	// with problems is still shown; Verify is what refuses.
	Problems []string `json:"problems,omitempty"`
}

// BootFile is one file of the boot partition.
type BootFile struct {
	Path string `json:"path"`
	Size int64  `json:"size_bytes"`
	// Signature is set for programs.
	Signature *SignatureReport `json:"signature,omitempty"`
	// Enrols names the certificates that a key file would enrol.
	Enrols []string `json:"enrols,omitempty"`
}

// SignatureReport says who a program claims to be signed by, and whether that
// holds.
type SignatureReport struct {
	Signers []string `json:"signers"`
	// Valid is nil if no certificate was given to check against.
	Valid *bool  `json:"valid,omitempty"`
	Error string `json:"error,omitempty"`
}

// KernelImage is one UKI.
type KernelImage struct {
	Path       string           `json:"path"`
	Size       int64            `json:"size_bytes"`
	Kernel     string           `json:"kernel"` // uname -r
	Version    string           `json:"version"`
	Board      string           `json:"board"`
	Cmdline    string           `json:"cmdline"`
	RootHash   string           `json:"root_hash"`
	DataBlocks int64            `json:"data_blocks"`
	Sections   map[string]int64 `json:"sections"` // sizes in bytes
	// PCRs predicts a TPM's registers after a boot of this image, hex by
	// register, SHA-256 bank; see uki.PCR11 and uki.PCR4.
	PCRs map[int]string `json:"pcrs,omitempty"`
}

// RootReport is the root file system of slot A.
type RootReport struct {
	Bytes     int64  `json:"bytes"`      // file system
	TreeBytes int64  `json:"tree_bytes"` // superblock and hash tree
	UUID      string `json:"verity_uuid"`
	Salt      string `json:"verity_salt"`
	Files     int    `json:"files"`   // regular files
	Modules   int    `json:"modules"` // kernel modules among them
	Units     int    `json:"services"`
}

// Inspect reads an image. Certificates, if given, are those that signatures
// are checked against; an invalid signature is reported, not an error. Only
// an image in which nothing can be found is an error.
func Inspect(img io.ReaderAt, size int64, certs ...*x509.Certificate) (*Report, error) {
	p, err := open(img, size)
	if err != nil {
		return nil, err
	}
	r := &Report{Size: size, DiskGUID: p.table.GUID, Partitions: p.table.Partitions}
	for _, f := range p.files {
		r.addFile(p, f, certs)
	}
	for _, u := range p.ukis {
		r.addKernel(p, u)
	}
	r.addRoot(p, certs)
	return r, nil
}

func (r *Report) problem(err error) { r.Problems = append(r.Problems, err.Error()) }

func (r *Report) addFile(p *parts, f disk.FATInfo, certs []*x509.Certificate) {
	b := BootFile{Path: f.Path, Size: f.Size}
	if strings.EqualFold(path.Ext(f.Path), ".efi") {
		pe, err := p.esp.ReadFile(f.Path)
		if err != nil {
			r.problem(err)
			return
		}
		b.Signature = signatureReport(pe, certs)
	}
	if isKeyFile(f.Path) {
		b.Enrols = r.enrols(p, f.Path)
	}
	r.Files = append(r.Files, b)
}

func (r *Report) enrols(p *parts, name string) (subjects []string) {
	data, err := p.esp.ReadFile(name)
	if err != nil {
		r.problem(err)
		return nil
	}
	certs, err := secureboot.AuthCertificates(data)
	if err != nil {
		r.problem(fmt.Errorf("%s: %w", name, err))
	}
	for _, c := range certs {
		subjects = append(subjects, c.Subject.String())
	}
	return subjects
}

func signatureReport(pe []byte, certs []*x509.Certificate) *SignatureReport {
	names, err := signers(pe)
	s := &SignatureReport{Signers: names}
	if err == nil && len(certs) > 0 {
		err = uki.Verify(pe, certs...)
		valid := err == nil
		s.Valid = &valid
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func (r *Report) addKernel(p *parts, u bootImage) {
	k := KernelImage{
		Path: u.path, Size: int64(len(u.pe)), Sections: map[string]int64{},
		Kernel: string(uki.Find(u.sections, uki.Uname)), Cmdline: string(uki.Find(u.sections, uki.Cmdline)),
		Version: u.cmdline[layout.CmdVersion], Board: u.cmdline[layout.CmdBoard],
	}
	for _, s := range u.sections {
		k.Sections[s.Name] = int64(len(s.Data))
	}
	rootHash, blocks, err := u.pin()
	if err != nil {
		r.problem(err)
	}
	k.RootHash, k.DataBlocks = hex.EncodeToString(rootHash), blocks
	if u.byUBoot() { // without a TPM
		r.Kernels = append(r.Kernels, k)
		return
	}
	if k.PCRs, err = p.predict(u); err != nil {
		r.problem(fmt.Errorf("predict measurements of %s: %w", u.path, err))
	}
	r.Kernels = append(r.Kernels, k)
}

// predict says what a TPM will hold after a boot of a kernel image by this
// disk's boot loader.
func (p *parts) predict(u bootImage) (map[int]string, error) {
	pcr11, err := uki.PCR11(u.pe)
	if err != nil {
		return nil, err
	}
	pcrs := map[int]string{11: hex.EncodeToString(pcr11[:])}
	arch, err := uki.Arch(u.pe)
	if err != nil {
		return pcrs, err
	}
	var programs [][]byte
	for _, l := range loaders(arch, nil) {
		pe, err := p.esp.ReadFile(l.Path)
		if err != nil {
			return pcrs, err
		}
		programs = append(programs, pe)
	}
	// The stub starts the kernel past the firmware's measuring.
	pcr4, err := uki.PCR4(append(programs, u.pe)...)
	if err == nil {
		pcrs[4] = hex.EncodeToString(pcr4[:])
	}
	return pcrs, err
}

// addRoot looks into the slot with the words of the first kernel image that
// has any.
func (r *Report) addRoot(p *parts, certs []*x509.Certificate) {
	_, blocks, err := p.ukis[0].pin()
	if err != nil {
		return // said already
	}
	root, err := p.root(blocks)
	if err != nil {
		r.problem(err)
		return
	}
	report := &RootReport{Bytes: blocks * layout.VerityBlock, TreeBytes: verity.Size(blocks) - blocks*layout.VerityBlock}
	if params, err := verity.ReadParams(p.slot, blocks); err != nil {
		r.problem(err)
	} else {
		report.UUID, report.Salt = release.GUID(params.UUID).String(), hex.EncodeToString(params.Salt)
	}
	if err := report.count(root); err != nil {
		r.problem(err)
	}
	r.Root = report
	if rel, err := readRelease(root); err != nil {
		r.problem(err)
	} else {
		r.Release = &rel
	}
	var list PackageList
	if data := file(root, layout.RootPackages); data == nil || json.Unmarshal(data, &list) != nil {
		r.problem(fmt.Errorf("the root has no readable package list at %s", layout.RootPackages))
	} else {
		r.Packages = &list
	}
	r.addAttested(root, certs)
}

// addAttested reads what the root says of how it was made and of updates.
func (r *Report) addAttested(root fs.FS, certs []*x509.Certificate) {
	r.sbom, r.provenance = file(root, layout.RootSBOM), file(root, layout.RootProvenance)
	if r.provenance != nil {
		r.Provenance = &SignatureReport{Signers: []string{}}
		_, err := attest.Payload(r.provenance)
		if err == nil && len(certs) > 0 {
			var signer *x509.Certificate
			signer, err = attest.SignedBy(r.provenance, certs...)
			valid := err == nil
			if r.Provenance.Valid = &valid; valid {
				r.Provenance.Signers = append(r.Provenance.Signers, signer.Subject.String())
			}
		}
		if err != nil {
			r.Provenance.Error = err.Error()
		}
	}
	if data := file(root, layout.RootTUF); data != nil {
		update, err := (&keys.Root{}).FromBytes(data)
		if err != nil {
			r.problem(fmt.Errorf("update root %s: %v", layout.RootTUF, err))
			return
		}
		r.UpdateRoot = update.Signed.Version
	}
}

// SBOM is the SPDX document in the root, nil if there is none.
func (r *Report) SBOM() []byte { return r.sbom }

// Envelope is the signed provenance in the root, nil if there is none.
func (r *Report) Envelope() []byte { return r.provenance }

func (c *RootReport) count(root fs.FS) error {
	units := strings.TrimPrefix(layout.RootUnits, "/")
	return fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		c.Files++
		if strings.HasSuffix(p, ".ko") {
			c.Modules++
		}
		if path.Dir(p) == units && path.Ext(p) == ".service" {
			c.Units++
		}
		return nil
	})
}
