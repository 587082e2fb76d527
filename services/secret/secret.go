// Package secret reads the files that a profile names: passwords, keys and
// certificates, which lie in the box's secrets directory.
package secret

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Path is where a file lies that a profile names: in dir, if it is not named
// by its whole path. No name is no path.
func Path(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// Read is what is in a file that a profile names, without the line end that
// editors leave. Read it when it is needed: it may change.
func Read(dir, name string) (string, error) {
	data, err := os.ReadFile(Path(dir, name))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", fmt.Errorf("read secret: %s is empty", name)
	}
	return text, nil
}
