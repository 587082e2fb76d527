// Package boards reads the boards: a board is a folder of data, board.yaml
// and its notes, and everything that differs between machines is in it.
package boards

// Board is one board.yaml.
type Board struct {
	Slug        string `yaml:"slug"` // the folder's name
	Description string `yaml:"description"`
	Arch        string `yaml:"arch"` // GOARCH: amd64, arm64
	Boot        string `yaml:"boot"` // boot back end: "systemd-boot"

	// Packages of the Debian archive, by the names the lock file resolves.
	Packages Packages `yaml:"packages"`
	// Cmdline holds the board's own kernel arguments; consoles come last, the
	// last one is /dev/console.
	Cmdline []string `yaml:"cmdline"`
	Modules Modules  `yaml:"modules"`
	QEMU    *QEMU    `yaml:"qemu,omitempty"` // how QEMU plays this board
	// Imager holds the names that Raspberry Pi Imager has for the machines
	// that the board's image is for ("pi4-64bit"); none is any.
	Imager []string `yaml:"imager,omitempty"`
}

// Packages names what is taken from the Debian archive.
type Packages struct {
	Kernel string `yaml:"kernel"` // meta-package: linux-image-amd64
	Loader string `yaml:"loader"` // systemd-boot and its UKI stub: systemd-boot-efi
}

// Modules selects kernel modules, with all they depend on. Initramfs names
// modules needed before the root is open; Root holds slash-separated path
// prefixes below the kernel's module folder ("kernel/drivers/net/ethernet/intel")
// or single module names. What the boot sequence needs on every board is
// added by the reader.
type Modules struct {
	Initramfs []string `yaml:"initramfs"`
	Root      []string `yaml:"root"`
	// Load names modules loaded at boot whether or not a device asks for them.
	Load []string `yaml:"load,omitempty"`
}

// QEMU says how QEMU plays the board.
type QEMU struct {
	System    string `yaml:"system"`     // qemu-system-<System>
	Machine   string `yaml:"machine"`    // -machine
	CPU       string `yaml:"cpu"`        // -cpu under TCG
	MemoryMiB int    `yaml:"memory_mib"` // default -m
	SMP       int    `yaml:"smp"`        // default -smp
	Firmware  string `yaml:"firmware"`   // Debian package: ovmf
	Code      string `yaml:"code"`       // path of the firmware code in that package
	Vars      string `yaml:"vars"`       // path of its variable store template
	// SecureCode is the firmware code with Secure Boot, VendorVars a variable
	// store whose db holds the certificates that option ROMs are signed by.
	SecureCode string `yaml:"secure_code,omitempty"`
	VendorVars string `yaml:"vendor_vars,omitempty"`

	Disk     string   `yaml:"disk"`            // -device driver of the disk: virtio-blk-pci
	NIC      string   `yaml:"nic"`             // -device driver of the NIC: virtio-net-pci
	Watchdog string   `yaml:"watchdog"`        // -device driver of the hardware watchdog: i6300esb
	Extra    []string `yaml:"extra,omitempty"` // further arguments
}
