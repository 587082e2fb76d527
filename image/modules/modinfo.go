// Package modules reads kernel modules of a Debian kernel package, selects
// those a board needs with all they depend on, and writes the tables that
// depmod writes.
package modules

import (
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"strings"
)

// Module is one loadable module.
type Module struct {
	// Path below the kernel's module folder, without compression suffix:
	// "kernel/drivers/block/virtio_blk.ko".
	Path string `json:"path"`
	Name string `json:"name"` // with underscores, as in /proc/modules
	// Depends are the names of modules it needs symbols of.
	Depends []string `json:"depends,omitempty"`
	// Softdeps as the module declares them: "pre: a b post: c".
	Softdeps []string `json:"softdeps,omitempty"`
	Aliases  []string `json:"aliases,omitempty"` // patterns of modalias, and plain names
	Firmware []string `json:"firmware,omitempty"`

	Source string `json:"source"` // file in the package, below the module folder
	SHA256 string `json:"sha256"` // of the decompressed module, hex
	Size   int64  `json:"size"`   // of the decompressed module, bytes
}

// maxModule bounds a decompressed module, in bytes. The largest of Debian's
// kernel, a graphics driver, has some 15 MiB.
const maxModule = 256 << 20

// ParseModinfo reads the .modinfo section of a module, an ELF object, into
// m's Name, Depends, Softdeps, Aliases and Firmware.
func ParseModinfo(ko []byte, m *Module) error {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return fmt.Errorf("read module %s: %v", m.Path, err)
	}
	section := f.Section(".modinfo")
	if section == nil || section.Type == elf.SHT_NOBITS || section.Size > maxModule {
		return fmt.Errorf("read module %s: no .modinfo section", m.Path)
	}
	data, err := section.Data()
	if err != nil {
		return fmt.Errorf("read module %s: .modinfo: %v", m.Path, err)
	}
	for _, word := range strings.Split(string(data), "\x00") {
		if key, value, ok := strings.Cut(word, "="); ok {
			m.set(key, value)
		}
	}
	if m.Name == "" {
		m.Name = nameOf(m.Path)
	}
	return nil
}

func (m *Module) set(key, value string) {
	switch key {
	case "name":
		m.Name = normal(value)
	case "depends":
		for _, name := range strings.Split(value, ",") {
			if name != "" {
				m.Depends = append(m.Depends, normal(name))
			}
		}
	case "softdep":
		m.Softdeps = append(m.Softdeps, value)
	case "alias":
		m.Aliases = append(m.Aliases, value)
	case "firmware":
		m.Firmware = append(m.Firmware, value)
	}
}

// softNames returns the names in the module's softdeps, pre and post alike.
func (m *Module) softNames() []string {
	var names []string
	for _, s := range m.Softdeps {
		for _, word := range strings.Fields(s) {
			if !strings.HasSuffix(word, ":") {
				names = append(names, word)
			}
		}
	}
	return names
}

// normal writes a module's name as the kernel does: file names and people mix
// hyphens and underscores.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }

// nameOf derives a module's name from its file name.
func nameOf(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return normal(base)
}
