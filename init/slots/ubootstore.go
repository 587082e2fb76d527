//go:build linux

package slots

import (
	"context"
	"encoding/hex"
	"log/slog"

	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/verity"
)

// UBoot is the back end for boards that U-Boot starts. What it says of the
// booted disk comes through the same EFI variables as from other firmware:
// U-Boot plays UEFI to the kernel image's stub.
type UBoot struct {
	Log     *slog.Logger
	EFIVars string
	Pin     verity.Pin
	// ESP calls use with the boot partition, which is not mounted meanwhile.
	ESP func(use func(d gpt.Disk, size int64) error) error
}

var _ Store = (*UBoot)(nil)

// Current implements Store.
func (s *UBoot) Current(ctx context.Context) (*Slot, error) {
	return findBooted(ctx, s.Log, s.EFIVars, s.Pin)
}

func (s *UBoot) partition() SlotPartition {
	return SlotPartition{ESP: s.ESP, RootHash: hex.EncodeToString(s.Pin.RootHash)}
}

// Look implements Store.
func (s *UBoot) Look() (*Boot, error) { return s.partition().Look() }

// Try implements Store.
func (s *UBoot) Try(c Candidate) error { return s.partition().Try(c) }

// Settle implements Store.
func (s *UBoot) Settle(v Verdict) error { return s.partition().Settle(v) }
