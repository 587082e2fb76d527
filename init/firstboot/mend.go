package firstboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waysideos/wayside/init/gpt"
)

// needsRecovery is the incompatible feature that says that the journal may
// hold what is not in its place yet.
const needsRecovery = 0x4

// settled are the bytes of a superblock that stay as they were made, and are
// the same in every backup: [from, to).
var settled = [][2]int{
	{0x014, 0x02c}, // first block, block size, blocks and inodes per group
	{0x048, 0x05a}, // creator, revision, first inode, inode size
	{0x064, 0x078}, // read-only features, UUID
	{0x0e0, 0x0e4}, // the journal's inode
	{0x0fe, 0x100}, // size of a group descriptor
	{0x174, 0x176}, // groups per flex group, kind of checksum
	{0x270, 0x274}, // seed of the metadata checksums
}

// mend gives a superblock whose checksum is wrong a right one, and says
// whether it did. ext4 writes its superblock of two sectors in place and
// beside the journal, at each mount: a power cut between the two leaves the
// halves of two superblocks that differ in times and counters only, and the
// kernel refuses to mount that. What it must not guess is compared with the
// first backup. Whatever a resize had changed is in the journal, which is
// marked for recovery.
func mend(d gpt.Disk, size int64) (bool, error) {
	super, backup := make([]byte, superSize), make([]byte, superSize)
	if _, err := d.ReadAt(super, superOffset); err != nil {
		return false, fmt.Errorf("read the superblock: %w", err)
	}
	if superblockWhole(super) {
		return false, nil
	}
	if size < backupSuper+superSize {
		return false, errors.New("the superblock is damaged, and so small a file system has no backup of it")
	}
	if _, err := d.ReadAt(backup, backupSuper); err != nil {
		return false, fmt.Errorf("read the backup superblock: %w", err)
	}
	if !superblockWhole(backup) {
		return false, errors.New("the superblock and its first backup are damaged")
	}
	for _, s := range settled {
		if !bytes.Equal(super[s[0]:s[1]], backup[s[0]:s[1]]) {
			return false, fmt.Errorf("the superblock is damaged: bytes %#x to %#x are not those of its backup", s[0], s[1])
		}
	}
	le := binary.LittleEndian
	le.PutUint32(super[0x60:], le.Uint32(super[0x60:])|needsRecovery)
	le.PutUint32(super[superSize-4:], superblockSum(super))
	if _, err := d.WriteAt(super, superOffset); err != nil {
		return false, fmt.Errorf("mend the superblock: %w", err)
	}
	if err := d.Sync(); err != nil {
		return false, fmt.Errorf("mend the superblock: sync: %w", err)
	}
	return true, nil
}
