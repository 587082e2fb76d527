// Package boards reads the boards: a board is a folder of data, board.yaml
// and its notes, and everything that differs between machines is in it.
package boards

// Board is one board.yaml.
type Board struct {
	Slug        string `yaml:"slug"` // the folder's name
	Description string `yaml:"description"`
	Arch        string `yaml:"arch"` // GOARCH: amd64, arm64
	Boot        string `yaml:"boot"` // boot back end: layout.BootSystemd, layout.BootUBoot

	// Packages of the Debian archive, by the names the lock file resolves.
	Packages Packages `yaml:"packages"`
	// Cmdline holds the board's own kernel arguments; consoles come last, the
	// last one is /dev/console.
	Cmdline  []string `yaml:"cmdline"`
	Modules  Modules  `yaml:"modules"`
	Firmware Firmware `yaml:"firmware,omitempty"`
	Programs Programs `yaml:"programs,omitempty"`
	// Watchdogs are the modules of the hardware watchdogs that the machines may
	// have, the preferred one first. They are in the initramfs; one that no
	// device asks for ("f71808e_wdt", of a Super I/O chip) belongs into
	// Modules.Load as well. None: whatever hardware watchdog is found first.
	Watchdogs []string `yaml:"watchdogs,omitempty"`
	// BootFiles go onto the boot partition as they are: what a machine's own
	// firmware loads from it. They belong to no slot.
	BootFiles []BootFiles `yaml:"boot_files,omitempty"`
	// DeviceTrees of the kernel package, below its folder of them
	// ("broadcom/bcm2711-rpi-4-b.dtb"), are in every kernel image, where the one
	// for the machine is chosen by its compatible string, and on the boot
	// partition for the firmware.
	DeviceTrees []string `yaml:"device_trees,omitempty"`
	QEMU        *QEMU    `yaml:"qemu,omitempty"` // how QEMU plays this board
	// Imager holds the names that Raspberry Pi Imager has for the machines
	// that the board's image is for ("pi4-64bit"); none is any.
	Imager []string `yaml:"imager,omitempty"`
}

// BootFiles are files of one folder of a Debian package, or of the board's own
// folder where no package is named.
type BootFiles struct {
	Package string   `yaml:"package,omitempty"`
	From    string   `yaml:"from,omitempty"`
	Files   []string `yaml:"files"`
}

// Own is a file of the board's folder.
func (b Board) Own(name string) ([]byte, error) { return files.ReadFile(b.Slug + "/" + name) }

// BootPackages names the Debian packages of BootFiles.
func (b Board) BootPackages() []string {
	var names []string
	for _, f := range b.BootFiles {
		if f.Package != "" {
			names = append(names, f.Package)
		}
	}
	return names
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
// added by the reader. A word with a colon is the modalias of a device
// ("pci:v00008086d000015F3sv..."), as the device shows it in sysfs, and stands
// for every module that the kernel would load for it.
type Modules struct {
	Initramfs []string `yaml:"initramfs"`
	Root      []string `yaml:"root"`
	// Load names modules loaded at boot whether or not a device asks for them.
	Load []string `yaml:"load,omitempty"`
}

// Firmware selects the files that devices load, by the modules that ask for
// them: of the packages those files go into the root that a selected module
// names (MODULE_FIRMWARE). Where a module names a pattern, as for files that
// differ from board to board, only what Files matches is taken.
type Firmware struct {
	Packages []string `yaml:"packages"` // of the Debian archive: firmware-realtek
	// Files are patterns (path.Match) of paths below the firmware folder, taken
	// whether or not a module names them: "brcm/brcmfmac43455-sdio.*".
	Files []string `yaml:"files,omitempty"`
	// Without are patterns of files that a module names for devices that none
	// of the machines has: one driver is for many chips.
	Without []string `yaml:"without,omitempty"`
}

// Programs selects programs of Debian for the root. Of the packages only Files
// go in, and of libraries what these are linked with.
type Programs struct {
	Packages []string `yaml:"packages"`
	Files    []string `yaml:"files"` // paths below the root: "usr/sbin/wpa_supplicant"
}

// QEMU says how QEMU plays the board.
type QEMU struct {
	System    string `yaml:"system"`     // qemu-system-<System>
	Machine   string `yaml:"machine"`    // -machine
	CPU       string `yaml:"cpu"`        // -cpu under TCG
	MemoryMiB int    `yaml:"memory_mib"` // default -m
	SMP       int    `yaml:"smp"`        // default -smp
	// Plays is what the firmware is played by: "" by UEFI flash files of a
	// package, or one of the names below by the harness itself.
	Plays    string `yaml:"plays,omitempty"`
	Firmware string `yaml:"firmware"` // Debian package: ovmf
	Code     string `yaml:"code"`     // path of the firmware code in that package
	Vars     string `yaml:"vars"`     // path of its variable store template
	// SecureCode is the firmware code with Secure Boot, VendorVars a variable
	// store whose db holds the certificates that option ROMs are signed by.
	SecureCode string `yaml:"secure_code,omitempty"`
	VendorVars string `yaml:"vendor_vars,omitempty"`

	Bus      string   `yaml:"bus,omitempty"`   // -device driver of the controller that the disk hangs on, if the machine has none: qemu-xhci
	Disk     string   `yaml:"disk"`            // -device driver of the disk: virtio-blk-pci
	NIC      string   `yaml:"nic"`             // -device driver of the NIC: virtio-net-pci
	Watchdog string   `yaml:"watchdog"`        // -device driver of the hardware watchdog: i6300esb
	TPM      string   `yaml:"tpm,omitempty"`   // -device driver of a TPM that the kernel knows: tpm-crb
	Extra    []string `yaml:"extra,omitempty"` // further arguments
}

// PlaysPi says that package qemu/pifirmware does what a Raspberry Pi's firmware
// does before it starts a program: QEMU has none.
const PlaysPi = "raspberry-pi"
