// Package layout is the contract between the image that is built and the
// init that boots it: partition roles, names and sizes, where things lie on
// the boot partition and in the root, and the words on the kernel command
// line. It is data only and imports nothing of ours.
package layout

import "fmt"

const (
	MiB = int64(1) << 20
	GiB = int64(1) << 30
	// Alignment of every partition start, in bytes.
	Alignment = MiB
)

// Role names what a partition is for. A role appears at most once on a disk.
type Role string

const (
	ESP   Role = "esp"    // boot loader, UKIs, and the folder a laptop user may write to
	RootA Role = "root-a" // slot A: EROFS followed by its dm-verity tree
	RootB Role = "root-b" // slot B, same shape
	State Role = "state"  // identity, site profile, update state, last logs
	Data  Role = "data"   // the rest of the disk: broker log, spools, workloads
)

// Partition declares one entry of the GPT. Partitions are found by type and
// name on the disk that was booted, never by label across disks.
type Partition struct {
	Role     Role
	Index    int    // GPT entry number, from 1
	Name     string // GPT partition name
	Type     string // GPT type GUID (UEFI; Discoverable Partitions Specification)
	Size     int64  // bytes; 0 means the rest of the disk
	Shipped  bool   // part of the built image; the others are made on first boot
	ReadOnly bool   // GPT attribute bit 60 is set
}

// GPT type GUIDs. State and data use the Linux generic type; their names
// tell them apart.
const (
	TypeESP     = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	TypeRootX64 = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	TypeRootA64 = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
	TypeLinux   = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

// AttrReadOnly is the GPT attribute bit of a read-only partition.
const AttrReadOnly = uint64(1) << 60

// Partitions returns the layout for a GOARCH ("amd64" or "arm64"), in disk
// order. Sizes are for ever: a root slot is at least four times today's root,
// the ESP holds three UKIs and a spare loader.
func Partitions(goarch string) ([]Partition, error) {
	var root string
	switch goarch {
	case "amd64":
		root = TypeRootX64
	case "arm64":
		root = TypeRootA64
	default:
		return nil, fmt.Errorf("partition layout for architecture %q: only amd64 and arm64 are known", goarch)
	}
	return []Partition{
		{Role: ESP, Index: 1, Name: "wayside-esp", Type: TypeESP, Size: 256 * MiB, Shipped: true},
		{Role: RootA, Index: 2, Name: "wayside-root-a", Type: root, Size: 768 * MiB, Shipped: true, ReadOnly: true},
		{Role: RootB, Index: 3, Name: "wayside-root-b", Type: root, Size: 768 * MiB, ReadOnly: true},
		{Role: State, Index: 4, Name: "wayside-state", Type: TypeLinux, Size: 256 * MiB},
		{Role: Data, Index: 5, Name: "wayside-data", Type: TypeLinux, Size: 0},
	}, nil
}

// MinDisk is the smallest disk, in bytes, that first boot can lay out: the
// four fixed partitions, 512 MiB of data, and the GPT's own sectors.
const MinDisk = (1 + 256 + 768 + 768 + 256 + 512 + 1) * MiB

// dm-verity parameters of a slot. The partition holds, from its start:
// DataBlocks blocks of EROFS, one block with the verity superblock, the hash
// tree (hash start = DataBlocks+1).
const (
	VerityBlock = 4096 // bytes, data and hash block alike
	VerityHash  = "sha256"
	DeviceRoot  = "wayside-root" // device-mapper name of the opened root
)

// Paths on the ESP, relative to its root, with forward slashes.
const (
	ESPLoader     = "EFI/BOOT" // + LoaderFile(goarch)
	ESPUKIDir     = "EFI/Linux"
	ESPLoaderConf = "loader/loader.conf"
	ESPKeys       = "loader/keys/auto"     // PK.auth, KEK.auth, db.auth, where a build is to enrol them; the one name that systemd-boot enrols by itself
	ESPSite       = "wayside/site.yaml"    // the site profile as dropped by the engineer
	ESPSecrets    = "wayside/secrets"      // folder of the files that the profile's listeners name
	ESPInstall    = "wayside/install.yaml" // makes a stick an installer; see services/site
	ESPClaim      = "wayside/box.claim"    // makes the box somebody's; see services/claim. Gone once it was taken over
	ESPRefused    = "wayside/box.refused"  // a claim that was refused
)

// ESPRecovery is where a person puts the recovery key of a box whose TPM does
// not give the keys of its partitions.
const ESPRecovery = "wayside/recovery-key"

// LoaderFile is the removable-media file name of the boot loader
// (UEFI 2.10, section 3.5.1.1).
func LoaderFile(goarch string) string {
	if goarch == "arm64" {
		return "BOOTAA64.EFI"
	}
	return "BOOTX64.EFI"
}

// BootManager is where systemd-boot lies on the ESP if a guard is what the
// firmware starts (see image/guard).
func BootManager(goarch string) string {
	if goarch == "arm64" {
		return "EFI/systemd/systemd-bootaa64.efi"
	}
	return "EFI/systemd/systemd-bootx64.efi"
}

// UKIName is the file name of a version's UKI below ESPUKIDir. A trial
// carries a boot counter, "+LEFT-DONE", before the suffix.
func UKIName(version string) string { return "wayside-" + version + ".efi" }

// ESPSlots are the names below ESPUKIDir of the two kernel images of a board
// that U-Boot starts; BootRecord says which.
var ESPSlots = [2]string{"wayside-a.efi", "wayside-b.efi"}

// What U-Boot runs and the environment that it starts with.
const (
	ESPBootScript = "boot.scr"
	ESPBootEnv    = "uboot.env"
)

// UBootFiles are those of its boot chain that a release can renew, in order: any
// script must run under the U-Boot before as well. What the machine's firmware
// loads itself belongs together in pairs, and no write of one sector renews two
// files.
var UBootFiles = []string{ESPBootScript, "u-boot.bin"}

// Boot back ends: which boot loader a board's kernel images are started by.
const (
	BootSystemd = "systemd-boot"
	BootUBoot   = "u-boot"
)

// Words on the kernel command line, all inside the UKI's signature.
const (
	CmdRootHash   = "wayside.roothash"   // hex of the dm-verity root hash
	CmdDataBlocks = "wayside.datablocks" // EROFS size in VerityBlock blocks, decimal
	CmdVersion    = "wayside.version"
	CmdBoard      = "wayside.board"
	CmdEpoch      = "wayside.epoch"     // build epoch, Unix seconds: lowest trusted time
	CmdCounter    = "wayside.counter"   // release counter, decimal; absent in images older than updates
	CmdBoot       = "wayside.boot"      // boot back end; absent means systemd-boot
	CmdWatchdogs  = "wayside.watchdogs" // modules of hardware watchdogs, the preferred one first, with commas
	CmdEncrypt    = "wayside.encrypt"   // "tpm": state and data are made encrypted
)

// Paths inside the root file system.
const (
	RootInit     = "/sbin/init"
	RootServices = "/usr/bin/waysided"
	RootUnits    = "/usr/lib/wayside/units"        // *.service, *.socket
	RootRelease  = "/usr/lib/wayside/release.json" // see image/release
	RootPackages = "/usr/share/wayside/packages.json"
	// RootTUF is the update root that a box trusts at first (TUF, section
	// 5.2). An image built without update keys lacks it and takes no updates.
	RootTUF = "/usr/lib/wayside/tuf/root.json"
	// RootLoader holds the boot loader of the release, by its paths on the ESP:
	// signed programs, or UBootFiles.
	RootLoader     = "/usr/lib/wayside/boot"
	RootSBOM       = "/usr/share/wayside/sbom.spdx.json"  // SPDX 2.3
	RootBootFiles  = "/usr/share/wayside/boot-files.json" // SHA-256, hex by path, of what lies on the boot partition of a board that U-Boot starts
	RootProvenance = "/usr/share/wayside/provenance.json" // DSSE envelope of an in-toto statement
	RootModules    = "/usr/lib/modules"                   // + /<kernel release>
	// RootModulesLoad names modules that are loaded whether or not a device
	// asks for them, one a line; in the initramfs too.
	RootModulesLoad = "/usr/lib/wayside/modules.load"
)

// Mount points in the running system.
const (
	MountESP   = "/boot"
	MountState = "/state"
	MountData  = "/var/lib" // StateDirectory=x is MountData/x, as systemd has it
)

// FWCfgAdvertised is the QEMU fw_cfg item with the host:port that clients on
// the other side of QEMU's user network reach the broker by.
const FWCfgAdvertised = "opt/io.wayside/broker.advertised"
