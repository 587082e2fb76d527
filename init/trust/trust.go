// Package trust reads what firmware and TPM say of the boot: whether only
// signed programs were let run, and what was measured.
package trust

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Modes of Secure Boot, as manifest.Box words them.
const (
	On    = "on"
	Off   = "off"
	Setup = "setup mode" // no platform key: anybody may enrol one
	None  = ""           // firmware without UEFI variables
)

// globalGUID is EFI_GLOBAL_VARIABLE (UEFI 2.10, section 3.3).
const globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// SecureBoot reads the mode from efivarfs.
func SecureBoot(efivars fs.FS) (string, error) {
	on, err := flag(efivars, "SecureBoot")
	if errors.Is(err, fs.ErrNotExist) {
		return None, nil
	}
	if err != nil {
		return None, err
	}
	setup, err := flag(efivars, "SetupMode")
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return None, err
	case on:
		return On, nil
	case setup:
		return Setup, nil
	}
	return Off, nil
}

// flag reads a variable of one byte, which follows four of attributes.
func flag(efivars fs.FS, name string) (bool, error) {
	b, err := fs.ReadFile(efivars, name+"-"+globalGUID)
	if err != nil {
		return false, err
	}
	if len(b) != 5 || b[4] > 1 {
		return false, fmt.Errorf("read EFI variable %s: %d bytes are no flag", name, len(b))
	}
	return b[4] == 1, nil
}

// pcrs is where the kernel shows the SHA-256 bank of the first TPM, below
// /sys.
const pcrs = "class/tpm/tpm0/pcr-sha256"

// PCR reads a register of the TPM's SHA-256 bank, from sysfs; nil if there is
// no TPM, or none with that bank.
func PCR(sys fs.FS, n int) ([]byte, error) {
	text, err := fs.ReadFile(sys, path.Join(pcrs, strconv.Itoa(n)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read PCR %d: %w", n, err)
	}
	value, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(value) != 32 {
		return nil, fmt.Errorf("read PCR %d: %q is no SHA-256 value", n, text)
	}
	return value, nil
}
