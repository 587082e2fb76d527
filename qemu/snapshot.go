package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// File names of a snapshot, beside those of the work folder.
const (
	snapshotRAM  = "ram"
	snapshotMeta = "snapshot.json" // written last: without it there is no snapshot
)

// snapshot is the meta file. The ports belong to the snapshot, because the
// broker in the guest has been told the address that it gives its clients.
type snapshot struct {
	Key      string    `json:"key"`
	Forwards []Forward `json:"forwards"`
	Accel    string    `json:"accel"`
	Saved    time.Time `json:"saved"` // the guest's clock stands there when restored
}

// ErrNoSnapshot matches the error of Restore when the folder holds no
// snapshot, or one of another image, configuration or QEMU.
var ErrNoSnapshot = errors.New("no snapshot for this machine")

// SnapshotKey identifies what a snapshot of this configuration depends on: the
// bytes of the image and the firmware, the command line, and QEMU's version.
// Ports that are left open (0) are left open in the key.
func SnapshotKey(ctx context.Context, cfg Config) (string, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return "", err
	}
	if cfg.SecureBoot != nil || cfg.TPM {
		return "", errors.New("save the machine: one with Secure Boot or a TPM is booted, not saved")
	}
	bin, err := Find(ctx, cfg.Board.QEMU.System)
	if err != nil {
		return "", err
	}
	if cfg.Accel, _, err = accelerators.Choose(ctx, bin, cfg.Accel); err != nil {
		return "", err
	}
	h := sha256.New()
	for _, path := range []string{cfg.Image, cfg.Firmware.Code, cfg.Firmware.Vars} {
		if err := hashFile(h, path); err != nil {
			return "", err
		}
	}
	cfg.Image, cfg.Work = "image", "work"
	cfg.Firmware.Code = "code"
	args, err := cfg.Args()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s\n%d\n%s", bin.Version, cfg.DiskSize, strings.Join(args, "\n"))
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

func hashFile(w io.Writer, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("hash for the snapshot key: %w", err)
	}
	defer f.Close()
	one := sha256.New()
	if err := copyNonZero(hashAt{one}, f); err != nil {
		return fmt.Errorf("hash %s for the snapshot key: %w", path, err)
	}
	_, err = w.Write(one.Sum(nil))
	return err
}

// hashAt hashes blocks with their offsets: an image is mostly zeros, and
// those need not be hashed to tell one image from another.
type hashAt struct{ io.Writer }

func (h hashAt) WriteAt(p []byte, off int64) (int, error) {
	fmt.Fprintf(h, "%d ", off)
	return h.Write(p)
}

// Save writes the running guest to dir under key: its memory, its disk
// overlay and its firmware variables. The guest stands still meanwhile, about
// a second, and then goes on. Only DiskOverlay machines can be saved.
func (v *VM) Save(ctx context.Context, dir, key string) error {
	proc, err := v.running()
	if err != nil {
		return err
	}
	if v.cfg.Disk != DiskOverlay {
		return errors.New("save the machine: only one with an overlay disk can be saved")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save the machine: %w", err)
	}
	if err := proc.ctrl.execute(ctx, "stop", nil, nil); err != nil {
		return err
	}
	ram := map[string]any{"uri": "file:" + filepath.Join(dir, snapshotRAM)}
	if err := proc.ctrl.execute(ctx, "migrate", ram, nil); err != nil {
		return err
	}
	if err := migrated(ctx, proc.ctrl); err != nil {
		return err
	}
	// Between the migration and "cont" QEMU has let go of the disk.
	if err := v.copyState(dir, v.cfg.Work); err != nil {
		return err
	}
	meta := snapshot{Key: key, Forwards: v.cfg.Forwards, Accel: v.cfg.Accel, Saved: time.Now()}
	data, err := json.MarshalIndent(meta, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, snapshotMeta), data, 0o600); err != nil {
		return fmt.Errorf("save the machine: %w", err)
	}
	return proc.ctrl.execute(ctx, "cont", nil, nil)
}

// copyState copies the overlay and the variables from one folder to another.
func (v *VM) copyState(to, from string) error {
	names := []string{overlayFile}
	if v.cfg.Firmware.Vars != "" {
		names = append(names, varsFile)
	}
	for _, name := range names {
		if err := copySparse(filepath.Join(to, name), filepath.Join(from, name), 0); err != nil {
			return err
		}
	}
	return nil
}

// migrated waits for the end of a migration, in or out.
func migrated(ctx context.Context, ctrl *qmp) error {
	ticker := time.NewTicker(10 * time.Millisecond) // QEMU reports the end only to those who ask
	defer ticker.Stop()
	for {
		var state struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := ctrl.execute(ctx, "query-migrate", nil, &state); err != nil {
			return err
		}
		switch state.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("move the guest's memory: %s %s", state.Status, state.Error)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("move the guest's memory: %w", ctx.Err())
		}
	}
}

// Restore starts a machine from a snapshot that Save wrote to dir under key,
// with the snapshot's ports; the ones in cfg do not count. The guest goes on
// where it was, its clock too. The error matches ErrNoSnapshot when there is
// none for the key, and is a *PortError when a port of the snapshot is taken.
func Restore(ctx context.Context, dir, key string, cfg Config, log *slog.Logger) (*VM, error) {
	meta, err := readSnapshot(dir, key)
	if err != nil {
		return nil, err
	}
	cfg.Forwards, cfg.Accel = meta.Forwards, meta.Accel
	vm, err := newVM(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err := vm.resume(ctx, dir); err != nil {
		vm.Close()
		return nil, fmt.Errorf("restore %s: %w", dir, err)
	}
	return vm, nil
}

func readSnapshot(dir, key string) (snapshot, error) {
	data, err := os.ReadFile(filepath.Join(dir, snapshotMeta))
	if errors.Is(err, fs.ErrNotExist) {
		return snapshot{}, fmt.Errorf("%w in %s", ErrNoSnapshot, dir)
	}
	if err != nil {
		return snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	var meta snapshot
	if err := json.Unmarshal(data, &meta); err != nil {
		return snapshot{}, fmt.Errorf("%w in %s: %v", ErrNoSnapshot, dir, err)
	}
	if meta.Key != key {
		return snapshot{}, fmt.Errorf("%w in %s: it is of another image, configuration or QEMU", ErrNoSnapshot, dir)
	}
	return meta, nil
}

func (v *VM) resume(ctx context.Context, dir string) error {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := v.copyState(v.cfg.Work, absolute); err != nil {
		return err
	}
	if err := v.powerOn(ctx, "-incoming", "defer"); err != nil {
		return err
	}
	ctrl := v.proc.ctrl
	ram := map[string]any{"uri": "file:" + filepath.Join(absolute, snapshotRAM)}
	if err := ctrl.execute(ctx, "migrate-incoming", ram, nil); err != nil {
		return err
	}
	if err := migrated(ctx, ctrl); err != nil {
		return err
	}
	return ctrl.execute(ctx, "cont", nil, nil)
}
