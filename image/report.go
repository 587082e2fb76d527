package image

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Print writes the report for a person.
func (r *Report) Print(w io.Writer) error {
	out := &printer{w: w}
	if r.Release != nil {
		out.line("release", "%s", releaseText(*r.Release))
	}
	out.line("disk", "%s, %s", r.DiskGUID, bytesText(r.Size))
	for _, p := range r.Partitions {
		out.line("partition", "%d %-16s %10s  at %s, type %s, guid %s", p.Index, p.Name, bytesText(p.Size), bytesText(p.Start), p.Type, p.GUID)
	}
	for _, f := range r.Files {
		out.line("boot file", "%-34s %10s  %s", f.Path, bytesText(f.Size), f.Signature.text())
		if len(f.Enrols) > 0 {
			out.line("enrols", "%s", strings.Join(f.Enrols, "; "))
		}
	}
	for _, k := range r.Kernels {
		out.line("kernel", "%s in %s", k.Kernel, k.Path)
		out.line("cmdline", "%s", k.Cmdline)
		out.line("root hash", "%s", k.RootHash)
		for _, n := range slices.Sorted(maps.Keys(k.PCRs)) {
			out.line(fmt.Sprintf("pcr %d", n), "%s", k.PCRs[n])
		}
	}
	if r.Root != nil {
		out.line("root", "%s and %s of hash tree; %d files, of them %d kernel modules and %d services",
			bytesText(r.Root.Bytes), bytesText(r.Root.TreeBytes), r.Root.Files, r.Root.Modules, r.Root.Units)
	}
	if r.Release != nil {
		for _, name := range sortedKeys(r.Release.Services) {
			out.line("service", "%-16s %s", name, r.Release.Services[name])
		}
	}
	r.printUpdates(out)
	r.printPackages(out)
	for _, p := range r.Problems {
		out.line("PROBLEM", "%s", p)
	}
	return out.err
}

func (r *Report) printUpdates(out *printer) {
	if r.UpdateRoot > 0 {
		out.line("updates", "by update root %d", r.UpdateRoot)
	} else {
		out.line("updates", "none: the image has no update root")
	}
	switch p := r.Provenance; {
	case p == nil:
	case p.Error != "":
		out.line("provenance", "BAD SIGNATURE: %s", p.Error)
	case p.Valid == nil:
		out.line("provenance", "signed, not checked")
	default:
		out.line("provenance", "%s", p.text())
	}
}

func (r *Report) printPackages(out *printer) {
	if r.Packages == nil {
		return
	}
	for _, p := range r.Packages.Debian {
		out.line("package", "%s %s %s", p.Name, p.Version, p.Arch)
	}
	if r.Packages.Toolchain != "" {
		out.line("toolchain", "%s", r.Packages.Toolchain)
	}
	for _, m := range r.Packages.Go {
		out.line("go module", "%s %s", m.Path, m.Version)
	}
}

// text says in a line what is known of a program's signature.
func (s *SignatureReport) text() string {
	switch {
	case s == nil:
		return ""
	case len(s.Signers) == 0 && s.Error == "":
		return "NOT SIGNED"
	case s.Error != "":
		return "BAD SIGNATURE: " + s.Error
	case s.Valid == nil:
		return "signed by " + strings.Join(s.Signers, ", ") + ", not checked"
	}
	return "signed by " + strings.Join(s.Signers, ", ") + ", valid"
}
