// Package qemu boots a board's image in QEMU and drives it in words of the
// domain: start, expect on the console, cut the power, shut down, save a
// ready guest and restore it.
package qemu

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu/varstore"
)

// DiskMode says what the guest's disk is made of.
type DiskMode int

const (
	// DiskOverlay is a qcow2 file over the image: made in milliseconds, the
	// only mode that Save knows. The image must not change while it is used.
	DiskOverlay DiskMode = iota
	// DiskCopy is a sparse raw copy of the image: it stands by itself.
	DiskCopy
	// DiskDropping is DiskCopy behind a server that forgets un-flushed writes
	// when the power is cut (see PowerCutDropping).
	DiskDropping
)

// DefaultDiskSize is the guest's disk in bytes unless the configuration says
// otherwise. The file behind it takes only what is written.
const DefaultDiskSize = int64(4) << 30

// Firmware is a pair of UEFI flash files on the host. Code is mapped read
// only; Vars is a template that each VM copies and then keeps between boots.
type Firmware struct {
	Code string `json:"code"`
	Vars string `json:"vars"` // "" for firmware that keeps no variables
	// SecureCode is run instead of Code where Secure Boot is asked for; "" if
	// the board has none.
	SecureCode string `json:"secure_code,omitempty"`
}

// SecureBoot has the firmware run only what is signed by a key that its
// variables name. Without variables it is in setup mode: it runs anything, and
// lets the first who comes enrol keys.
type SecureBoot struct {
	Variables []varstore.Variable // put in the variable store when it is made
}

// Forward carries a TCP port of the host to one of the guest.
type Forward struct {
	Name  string // what is there: "kafka"
	Host  string // host:port; port 0 is replaced by a free one at start
	Guest int    // port in the guest
}

// Config is one machine.
type Config struct {
	Board    boards.Board // its QEMU section must be there
	Image    string       // raw disk image, never written to
	Firmware Firmware

	// Work is the folder for the disk, the variable store and the console
	// log; it is made if missing. "" means a temporary one that Close removes.
	Work string

	Disk     DiskMode
	DiskFile string // DiskCopy and DiskDropping: a disk kept across runs, made from the image if missing
	DiskSize int64  // bytes; 0 means DefaultDiskSize; never less than the image
	// FlushDelay is how long a DiskDropping disk takes to flush. A few
	// milliseconds make power cuts land between a write and its flush.
	FlushDelay time.Duration
	// DiskLies has a DiskDropping disk acknowledge flushes without doing them.
	DiskLies bool

	// WriteLog is a file for every write, flush and discard of a DiskCopy disk,
	// in order (qemu/writelog reads it); each start begins it anew. "" is none.
	WriteLog string

	MemoryMiB int // 0: the board's
	SMP       int // 0: the board's

	Forwards []Forward
	Isolated bool // nothing outside answers the guest; forwards to it still do
	// Advertised names the forward whose host address the broker in the guest
	// is told to give its clients; "" tells it nothing. A Raspberry Pi cannot be
	// told.
	Advertised string
	FWCfg      map[string]string // further fw_cfg items: name ("opt/…") to text

	SecureBoot *SecureBoot // nil: firmware without it
	TPM        bool        // a TPM 2.0, emulated by swtpm; its state is TPMState below Work

	// Accel is "auto" or "" (KVM if it proves itself, else TCG), "kvm" or "tcg".
	Accel string

	Console io.Writer // also gets what the guest prints, as it comes; may be nil
	Extra   []string  // further QEMU arguments, last
}

// File names below Work.
const (
	overlayFile = "disk.qcow2"
	rawFile     = "disk.raw"
	varsFile    = "vars.fd"
	consoleFile = "console.log"
	// TPMState is the folder with the TPM's state. A machine that finds none
	// has a TPM fresh from the factory.
	TPMState = "tpm"
)

// withDefaults fills what the board or this package knows.
func (c Config) withDefaults() (Config, error) {
	if c.Board.QEMU == nil {
		return c, fmt.Errorf("board %q has no qemu section in its board.yaml, so QEMU cannot play it", c.Board.Slug)
	}
	if c.Image == "" || c.Firmware.Code == "" && !c.isPi() {
		return c, fmt.Errorf("configuration of %q names no image or no firmware code", c.Board.Slug)
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = c.Board.QEMU.MemoryMiB
	}
	if c.SMP == 0 {
		c.SMP = c.Board.QEMU.SMP
		// An emulated processor now and then loses its timer when the others
		// are called into system management mode.
		if c.guardsVariables() {
			c.SMP = 1
		}
	}
	if c.DiskSize == 0 {
		c.DiskSize = DefaultDiskSize
	}
	if c.MemoryMiB <= 0 || c.SMP <= 0 {
		return c, fmt.Errorf("board %q: qemu.memory_mib and qemu.smp must be above zero", c.Board.Slug)
	}
	if c.DiskFile != "" && c.Disk == DiskOverlay {
		return c, fmt.Errorf("kept disk %s: an overlay dies with its image; use a copy", c.DiskFile)
	}
	if c.WriteLog != "" && c.Disk != DiskCopy {
		return c, fmt.Errorf("write log %s: only the writes of a copy are logged", c.WriteLog)
	}
	if c.SecureBoot != nil && (c.Firmware.SecureCode == "" || c.Firmware.Vars == "") {
		return c, fmt.Errorf("board %q names no firmware for Secure Boot: qemu.secure_code and qemu.vars in its board.yaml", c.Board.Slug)
	}
	if c.TPM && c.Board.QEMU.TPM == "" {
		return c, fmt.Errorf("board %q names no TPM that its kernel knows: qemu.tpm in its board.yaml", c.Board.Slug)
	}
	if c.Advertised != "" {
		if _, err := c.forward(c.Advertised); err != nil {
			return c, err
		}
	}
	return c, nil
}

// diskPath is the file behind the guest's disk.
func (c Config) diskPath() string {
	switch {
	case c.DiskFile != "":
		return c.DiskFile
	case c.Disk == DiskOverlay:
		return filepath.Join(c.Work, overlayFile)
	}
	return filepath.Join(c.Work, rawFile)
}

func (c Config) varsPath() string { return filepath.Join(c.Work, varsFile) }

// forward finds a forward by name.
func (c Config) forward(name string) (Forward, error) {
	var names []string
	for _, f := range c.Forwards {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Forward{}, fmt.Errorf("no forward is called %q; there are: %s", name, strings.Join(names, ", "))
}
