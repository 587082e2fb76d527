package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// RootsDir is the folder, in a key folder, of every TUF root that was ever
// signed: 1.root.json, 2.root.json and so on, each signed by the keys of the
// one before it too. None may be lost: a box follows them one by one.
const RootsDir = "roots"

// UpdateRoot returns the newest TUF root of a key folder, nil if it has none.
func UpdateRoot(dir string) ([]byte, error) {
	n, err := rootVersion(dir)
	if n == 0 || err != nil {
		return nil, err
	}
	return ReadRoot(dir, n)
}

// ReadRoot returns the root of a version.
func ReadRoot(dir string, version int64) ([]byte, error) {
	return os.ReadFile(rootFile(dir, version))
}

func rootFile(dir string, version int64) string {
	return filepath.Join(dir, RootsDir, strconv.FormatInt(version, 10)+".root.json")
}

// rootVersion is the highest version in the folder, 0 if there is none.
func rootVersion(dir string) (int64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, RootsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read update roots: %w", err)
	}
	newest := int64(0)
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".root.json")
		if n, err := strconv.ParseInt(number, 10, 64); ok && err == nil {
			newest = max(newest, n)
		}
	}
	return newest, nil
}
