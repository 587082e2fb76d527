package vault

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/waysideos/wayside/services/vfs"
)

// alphabet has no digits that look like letters.
var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const (
	recoveryBytes = 20 // 160 bits: nobody guesses it, and it is written down in a minute
	recoveryGroup = 4
)

// newRecoveryKey makes a key that people can write down: eight groups of four
// characters. The text, dashes included, is the passphrase.
func newRecoveryKey(random io.Reader) (string, error) {
	b := make([]byte, recoveryBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make a recovery key: %w", err)
	}
	return grouped(alphabet.EncodeToString(b)), nil
}

func grouped(text string) string {
	var groups []string
	for ; len(text) > recoveryGroup; text = text[recoveryGroup:] {
		groups = append(groups, text[:recoveryGroup])
	}
	return strings.Join(append(groups, text), "-")
}

// ParseRecoveryKey reads what a person typed: case, blanks and dashes do not
// matter.
func ParseRecoveryKey(text string) (string, error) {
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -\t\r\n\ufeff", r) {
			return -1
		}
		return r
	}, strings.ToLower(text))
	if b, err := alphabet.DecodeString(plain); err != nil || len(b) != recoveryBytes {
		return "", errors.New("it is no recovery key: want eight groups of four of the letters a to z and the digits 2 to 7")
	}
	return grouped(plain), nil
}

// recoveryFile keeps the recovery key on the state partition, which is
// encrypted itself: whoever reads it has the data already.
const recoveryFile = "recovery-key"

// maxRecovery is more than anybody types.
const maxRecovery = 256

func readRecovery(state vfs.FS) (string, error) {
	b, err := vfs.ReadWhole(state, recoveryFile, maxRecovery)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return ParseRecoveryKey(string(b))
}

func writeRecovery(state vfs.FS, key string) error {
	return vfs.WriteWhole(state, recoveryFile, []byte(key+"\n"))
}
