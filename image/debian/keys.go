package debian

import (
	"embed"
	"fmt"
	"io/fs"

	"github.com/ProtonMail/go-crypto/openpgp"
)

//go:embed keys/*.gpg
var keyFiles embed.FS

// Keys are the public keys an archive is believed by.
type Keys = openpgp.EntityList

// ArchiveKeys returns the committed keys of the Debian archive (keys/README.md).
func ArchiveKeys() (Keys, error) { return readKeys(keyFiles) }

func readKeys(fsys fs.FS) (Keys, error) {
	names, err := fs.Glob(fsys, "keys/*.gpg")
	if err != nil {
		return nil, err
	}
	var keys Keys
	for _, name := range names {
		f, err := fsys.Open(name)
		if err != nil {
			return nil, err
		}
		list, err := openpgp.ReadKeyRing(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read archive key %s: %v", name, err)
		}
		keys = append(keys, list...)
	}
	return keys, nil
}
