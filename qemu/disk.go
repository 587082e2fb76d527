package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"

	"github.com/waysideos/wayside/qemu/varstore"
)

// prepareDisk makes the guest's disk unless it is there already.
func prepareDisk(ctx context.Context, bin Binary, c Config) error {
	st, err := os.Stat(c.Image)
	if err != nil {
		return fmt.Errorf("open image: %w", err)
	}
	size := max(c.DiskSize, st.Size())
	if c.WriteLog != "" {
		if err := os.WriteFile(c.WriteLog, nil, 0o600); err != nil {
			return fmt.Errorf("make the write log: %w", err)
		}
	}
	path := c.diskPath()
	if _, err := os.Stat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.Disk == DiskOverlay {
		return makeOverlay(ctx, bin, c.Image, path, size)
	}
	// A copy that was cut short must not pass for a disk next time.
	part := path + ".part"
	if err := copySparse(part, c.Image, size); err != nil {
		os.Remove(part)
		return err
	}
	return os.Rename(part, path)
}

func makeOverlay(ctx context.Context, bin Binary, image, path string, size int64) error {
	cmd := exec.CommandContext(ctx, bin.Img, "create", "-q", "-f", "qcow2",
		"-F", "raw", "-b", image, path, strconv.FormatInt(size, 10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the overlay %s: %v: %s", path, err, bytes.TrimSpace(out))
	}
	return nil
}

// prepareVars copies the firmware's variable store unless it is there, and
// enrols what is to be in it.
func prepareVars(c Config) error {
	if c.Firmware.Vars == "" {
		return nil
	}
	if _, err := os.Stat(c.varsPath()); err == nil {
		return nil
	}
	if c.SecureBoot == nil || len(c.SecureBoot.Variables) == 0 {
		return copySparse(c.varsPath(), c.Firmware.Vars, 0)
	}
	flash, err := os.ReadFile(c.Firmware.Vars)
	if err != nil {
		return fmt.Errorf("read the firmware's variables: %w", err)
	}
	if flash, err = varstore.Put(flash, c.SecureBoot.Variables...); err != nil {
		return fmt.Errorf("%s: %w", c.Firmware.Vars, err)
	}
	return os.WriteFile(c.varsPath(), flash, 0o600)
}

// copySparse copies a file, leaves holes where it is zero, and makes the copy
// at least size bytes long. Where the file system can share blocks it does.
func copySparse(to, from string, size int64) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if !reflink(out, in) {
		if err := copyNonZero(out, in); err != nil {
			return fmt.Errorf("copy %s to %s: %w", from, to, err)
		}
	}
	st, err := in.Stat()
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return out.Truncate(max(size, st.Size()))
}

func copyNonZero(out io.WriterAt, in io.Reader) error {
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
