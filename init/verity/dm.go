//go:build linux

package verity

import (
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/dm"
)

// Open activates t on a block device node, read-only, and returns the node
// of the verified device.
func Open(t *Tree, node string) (string, error) {
	device, err := dm.Number(node)
	if err != nil {
		return "", err
	}
	return dm.Create(layout.DeviceRoot, dm.Table{
		Kind: "verity", Sectors: t.DataBlocks * block / 512, Params: t.target(device), ReadOnly: true,
	})
}

// Corrupted says whether the kernel has met a bad block since Open.
func Corrupted() (bool, error) {
	text, err := dm.Status(layout.DeviceRoot)
	if err != nil {
		return false, err
	}
	return text[0] == 'C', nil // "V" valid, "C" corrupted
}
