package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// MinVersion is the oldest major version of QEMU that is accepted: 7.2 under
// TCG crashes a third of all boots of kernel 6.12.
const MinVersion = 10

// setupHint is what a user types to get a QEMU that will do: the one that
// `make run` needs, or all that the tests play.
func setupHint(system string) string {
	purpose := "test"
	if system == "x86_64" {
		purpose = "run"
	}
	return "type: go run ./cmd/wayside host setup --for " + purpose
}

// ErrNotFound matches the error of Find when QEMU is missing or too old.
var ErrNotFound = errors.New("no usable QEMU")

// Binary is a QEMU on this machine.
type Binary struct {
	Path    string // the emulator
	Img     string // qemu-img of the same installation
	Version string // "10.0.2"
}

// Find looks for qemu-system-<system> and qemu-img and checks the version.
// The error says what to type and matches ErrNotFound.
func Find(ctx context.Context, system string) (Binary, error) {
	name := "qemu-system-" + system
	path, err := lookPath(name)
	if err != nil {
		return Binary{}, fmt.Errorf("%w: %s is not installed; %s", ErrNotFound, name, setupHint(system))
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Binary{}, fmt.Errorf("run %s --version: %w", path, err)
	}
	version, err := checkVersion(string(out))
	if err != nil {
		return Binary{}, fmt.Errorf("%w: %s %v; %s", ErrNotFound, path, err, setupHint(system))
	}
	img, err := lookPath("qemu-img")
	if err != nil {
		return Binary{}, fmt.Errorf("%w: qemu-img is not installed; %s", ErrNotFound, setupHint(system))
	}
	return Binary{Path: path, Img: img, Version: version}, nil
}

var versionLine = regexp.MustCompile(`version (\d+)\.(\d+)(\.\d+)*`)

// checkVersion reads the first line of --version.
func checkVersion(out string) (string, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("does not print a version that can be read (%.60q)", out)
	}
	version := m[0][len("version "):]
	if major, _ := strconv.Atoi(m[1]); major < MinVersion {
		return "", fmt.Errorf("is version %s, too old: %d or later is needed", version, MinVersion)
	}
	return version, nil
}

// lookPath also looks where a lean PATH forgets to.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}
