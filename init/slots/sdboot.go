//go:build linux

package slots

import (
	"context"
	"encoding/hex"
	"log/slog"
	"os"

	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/verity"
)

// SystemdBoot is the back end for UEFI boards: systemd-boot counts tries in
// the names of its entries.
type SystemdBoot struct {
	Log     *slog.Logger
	EFIVars string // where efivarfs is mounted, or would be
	Pin     verity.Pin
	// ESP calls use with the boot partition, which is not mounted meanwhile.
	ESP func(use func(d gpt.Disk, size int64) error) error
}

var _ Store = (*SystemdBoot)(nil)

// Current implements Store.
func (s *SystemdBoot) Current(ctx context.Context) (*Slot, error) {
	return findBooted(ctx, s.Log, s.EFIVars, s.Pin)
}

// partition is the boot partition with what this boot's words say of it.
func (s *SystemdBoot) partition() (Partition, error) {
	words, err := ReadWords(os.DirFS(s.EFIVars))
	return Partition{ESP: s.ESP, Running: words.RunningFile(), RootHash: hex.EncodeToString(s.Pin.RootHash)}, err
}

// Look implements Store.
func (s *SystemdBoot) Look() (*Boot, error) {
	p, err := s.partition()
	if err != nil {
		return nil, err
	}
	return p.Look()
}

// Try implements Store.
func (s *SystemdBoot) Try(c Candidate) error {
	p, err := s.partition()
	if err != nil {
		return err
	}
	return p.Try(c)
}

// Settle implements Store.
func (s *SystemdBoot) Settle(v Verdict) error {
	p, err := s.partition()
	if err != nil {
		return err
	}
	return p.Settle(v)
}
