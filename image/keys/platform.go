package keys

import (
	"crypto"
	"errors"
	"io/fs"
)

// Platform is who owns a machine's Secure Boot: the platform key may change
// the key exchange keys, those may change db, and db is what programs must be
// signed by (UEFI 2.10, section 32.3).
type Platform struct{ PK, KEK, DB Pair }

// LoadOrCreatePlatform reads the three pairs in dir; a folder without any keys
// gets a whole set, as by LoadOrCreate.
func LoadOrCreatePlatform(dir string, pass Passphrase) (p Platform, err error) {
	if p.DB, _, err = LoadOrCreate(dir, pass); err != nil {
		return Platform{}, err
	}
	f, err := Open(dir, pass)
	if err != nil {
		return Platform{}, err
	}
	if p.PK, err = f.Pair("PK"); err != nil {
		return Platform{}, err
	}
	p.KEK, err = f.Pair("KEK")
	return p, err
}

// policyName is the key that vouches for kernel images to TPMs.
const policyName = "pcr"

// LoadOrCreatePolicy reads the policy key in dir and makes it on first use.
// Boxes that were encrypted under one open their data by themselves only while
// releases are signed by it.
func LoadOrCreatePolicy(dir string, pass Passphrase) (crypto.Signer, error) {
	f, err := Open(dir, pass)
	if err != nil {
		return nil, err
	}
	p, err := f.Pair(policyName)
	if errors.Is(err, fs.ErrNotExist) {
		// Its other half, if that is there, is read and completed.
		if err := f.makePair(policyName, "Wayside policy key"); err != nil {
			return nil, err
		}
		p, err = f.Pair(policyName)
	}
	return p.Key, err
}
