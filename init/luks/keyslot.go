package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/xts"

	"github.com/waysideos/wayside/init/gpt"
)

const (
	cipherName = "aes-xts-plain64"
	keySize    = 64 // two AES-256 keys
	stripes    = 4000
	// iterations is the least that cryptsetup accepts. Passphrases here are
	// random and long; nobody guesses at them, however cheap a guess is.
	iterations    = 1000
	maxIterations = 10_000_000
)

// derive makes a key out of a passphrase.
func (k kdf) derive(passphrase []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, string(passphrase), k.Salt, k.Iterations, keySize)
}

// crypt runs AES-XTS over whole sectors in place; sector numbers count from 0.
func crypt(key, data []byte, encrypt bool) error {
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return err
	}
	for n := 0; n*gpt.Sector < len(data); n++ {
		s := data[n*gpt.Sector:][:gpt.Sector]
		if encrypt {
			c.Encrypt(s, s, uint64(n))
		} else {
			c.Decrypt(s, s, uint64(n))
		}
	}
	return nil
}

// split spreads a key over stripes, so that losing any part of them loses the
// key (LUKS1 On-Disk Format Specification, section 2.4).
func split(key []byte, random io.Reader) ([]byte, error) {
	out := make([]byte, areaSize)
	if _, err := io.ReadFull(random, out[:keySize*(stripes-1)]); err != nil {
		return nil, err
	}
	state := make([]byte, keySize)
	for i := range stripes - 1 {
		mix(state, out[i*keySize:][:keySize])
		diffuse(state)
	}
	last := out[(stripes-1)*keySize:][:keySize]
	copy(last, key)
	mix(last, state)
	return out, nil
}

// merge undoes split.
func merge(split []byte) []byte {
	state := make([]byte, keySize)
	for i := range stripes {
		mix(state, split[i*keySize:][:keySize])
		if i < stripes-1 {
			diffuse(state)
		}
	}
	return state
}

func mix(into, with []byte) {
	for i := range into {
		into[i] ^= with[i]
	}
}

// diffuse hashes each part of the size of a hash with its number.
func diffuse(b []byte) {
	for i := 0; i*sha256.Size < len(b); i++ {
		part := b[i*sha256.Size:][:sha256.Size]
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(i)), part...))
		copy(part, sum[:])
	}
}
