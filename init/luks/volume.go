package luks

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/waysideos/wayside/init/gpt"
)

// Entry is one way into a volume: a passphrase, and what is kept beside its
// key slot, as a LUKS2 token, to find the passphrase by. Token is nil for one
// that a person knows; else a JSON object with a "type".
type Entry struct {
	Passphrase []byte
	Token      map[string]any
}

// ErrPassphrase says that a passphrase opens no key slot.
var ErrPassphrase = errors.New("no key slot opens with it")

// Volume is an encrypted partition whose header was read.
type Volume struct {
	disk   gpt.Disk
	random io.Reader
	h      header
}

// Format makes a partition a volume with a random key, which it returns. What
// the partition held is lost. The first copy of the header is written when all
// else is on stable storage: a half-made volume is none.
func Format(d gpt.Disk, random io.Reader, label string, entries ...Entry) (key []byte, err error) {
	key = make([]byte, keySize)
	salt, id := make([]byte, 32), make([]byte, 16)
	for _, b := range [][]byte{key, salt, id} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("make volume: %w", err)
		}
	}
	sum, err := pbkdf2.Key(sha256.New, string(key), salt, iterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("make volume: %w", err)
	}
	v := &Volume{disk: d, random: random, h: header{uuid: uuid(id), label: label, meta: metadata{
		Keyslots: map[string]keyslot{}, Tokens: map[string]json.RawMessage{},
		Segments: map[string]segment{"0": {Type: "crypt", Offset: DataOffset, Size: "dynamic", Encryption: cipherName, SectorSize: gpt.Sector}},
		Digests: map[string]digest{"0": {Type: "pbkdf2", Segments: []string{"0"}, Hash: "sha256", Iterations: iterations,
			Salt: salt, Digest: sum}},
		Config: config{JSONSize: headerSize - binarySize, KeyslotsSize: DataOffset - areas},
	}}}
	return key, v.change(key, nil, entries)
}

// Open reads the header of a volume. The error is ErrNone if there is none.
func Open(d gpt.Disk, random io.Reader) (*Volume, error) {
	h, err := read(d)
	if err != nil {
		return nil, err
	}
	return &Volume{disk: d, random: random, h: h}, nil
}

// UUID is the volume's own.
func (v *Volume) UUID() string { return v.h.uuid }

// Tokens returns the tokens of a type, each decoded into a T.
func Tokens[T any](v *Volume, kind string) ([]T, error) {
	var all []T
	for _, name := range slices.Sorted(maps.Keys(v.h.meta.Tokens)) {
		raw := v.h.meta.Tokens[name]
		var head struct{ Type string }
		if err := json.Unmarshal(raw, &head); err != nil || head.Type != kind {
			continue
		}
		var token T
		if err := json.Unmarshal(raw, &token); err != nil {
			return nil, fmt.Errorf("read token %s: %v", name, err)
		}
		all = append(all, token)
	}
	return all, nil
}

// Unlock returns the volume's key. A passphrase that is not the volume's is
// ErrPassphrase.
func (v *Volume) Unlock(passphrase []byte) ([]byte, error) {
	for _, name := range slices.Sorted(maps.Keys(v.h.meta.Keyslots)) {
		key, err := v.try(v.h.meta.Keyslots[name], passphrase)
		if err != nil {
			return nil, fmt.Errorf("key slot %s: %w", name, err)
		}
		if key != nil {
			return key, nil
		}
	}
	return nil, ErrPassphrase
}

// try returns nil if the slot is another passphrase's.
func (v *Volume) try(k keyslot, passphrase []byte) ([]byte, error) {
	area := make([]byte, areaSize)
	if _, err := v.disk.ReadAt(area, int64(k.Area.Offset)); err != nil {
		return nil, err
	}
	wrap, err := k.KDF.derive(passphrase)
	if err != nil {
		return nil, err
	}
	if err := crypt(wrap, area, false); err != nil {
		return nil, err
	}
	key := merge(area)
	d := v.h.meta.Digests["0"]
	sum, err := pbkdf2.Key(sha256.New, string(key), d.Salt, d.Iterations, sha256.Size)
	if err != nil || subtle.ConstantTimeCompare(sum, d.Digest) != 1 {
		return nil, err
	}
	return key, nil
}

// Replace puts an entry in the place of those that drop chooses by the type of
// their token ("" for those without). It is safe against power cuts: the new
// slot is written where none was, then the header changes.
func (v *Volume) Replace(key []byte, drop func(tokenType string) bool, e Entry) error {
	var old []string
	for name := range v.h.meta.Keyslots {
		if drop(v.tokenOf(name)) {
			old = append(old, name)
		}
	}
	return v.change(key, old, []Entry{e})
}

// tokenOf is the type of the token that belongs to a key slot, "" for none.
func (v *Volume) tokenOf(slot string) string {
	for _, raw := range v.h.meta.Tokens {
		var head struct {
			Type     string
			Keyslots []string
		}
		if json.Unmarshal(raw, &head) == nil && slices.Contains(head.Keyslots, slot) {
			return head.Type
		}
	}
	return ""
}

// change writes the areas of new slots, then a header without the old ones.
func (v *Volume) change(key []byte, drop []string, add []Entry) error {
	h := v.h
	h.sequence++
	h.meta.Keyslots, h.meta.Tokens = maps.Clone(v.h.meta.Keyslots), maps.Clone(v.h.meta.Tokens)
	for _, e := range add {
		name, err := v.free(h.meta.Keyslots)
		if err != nil {
			return err
		}
		slot, err := v.writeSlot(name, key, e.Passphrase)
		if err != nil {
			return fmt.Errorf("write key slot %s: %w", name, err)
		}
		h.meta.Keyslots[name] = slot
		if e.Token != nil {
			token := maps.Clone(e.Token)
			token["keyslots"] = []string{name}
			if h.meta.Tokens[name], err = json.Marshal(token); err != nil {
				return err
			}
		}
	}
	for _, name := range drop {
		delete(h.meta.Keyslots, name)
		delete(h.meta.Tokens, name) // a token has the name of its slot
	}
	d := h.meta.Digests["0"]
	d.Keyslots = slices.Sorted(maps.Keys(h.meta.Keyslots))
	h.meta.Digests = map[string]digest{"0": d}
	if err := v.writeHeader(h); err != nil {
		return fmt.Errorf("write LUKS2 header: %w", err)
	}
	v.h = h
	return nil
}

func (v *Volume) free(taken map[string]keyslot) (string, error) {
	for n := range slots {
		name := strconv.Itoa(n)
		if _, ok := taken[name]; !ok {
			return name, nil
		}
	}
	return "", errors.New("the volume has no free key slot")
}

func (v *Volume) writeSlot(name string, key, passphrase []byte) (keyslot, error) {
	n, err := strconv.Atoi(name)
	if err != nil {
		return keyslot{}, err
	}
	var k keyslot
	k.Type, k.KeySize = "luks2", keySize
	k.AF.Type, k.AF.Stripes, k.AF.Hash = "luks1", stripes, "sha256"
	k.Area.Type, k.Area.Offset, k.Area.Size = "raw", number(areas+n*areaSize), areaSize
	k.Area.Encryption, k.Area.KeySize = cipherName, keySize
	k.KDF = kdf{Type: "pbkdf2", Hash: "sha256", Iterations: iterations, Salt: make([]byte, 32)}
	if _, err := io.ReadFull(v.random, k.KDF.Salt); err != nil {
		return k, err
	}
	area, err := split(key, v.random)
	if err != nil {
		return k, err
	}
	wrap, err := k.KDF.derive(passphrase)
	if err != nil {
		return k, err
	}
	if err := crypt(wrap, area, true); err != nil {
		return k, err
	}
	if _, err := v.disk.WriteAt(area, int64(k.Area.Offset)); err != nil {
		return k, err
	}
	return k, v.disk.Sync()
}

// writeHeader writes one copy after the other, so that a whole one is there at
// any instant.
func (v *Volume) writeHeader(h header) error {
	for _, offset := range []int64{headerSize, 0} {
		salt := make([]byte, 64)
		if _, err := io.ReadFull(v.random, salt); err != nil {
			return err
		}
		b, err := h.encode(offset, salt)
		if err != nil {
			return err
		}
		if _, err := v.disk.WriteAt(b, offset); err != nil {
			return err
		}
		if err := v.disk.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// Is says whether a partition holds a volume, though perhaps a damaged one:
// it is not to be taken for an empty one. A first copy that has begun, or a
// second one that is whole, tells.
func Is(r io.ReaderAt) (bool, error) {
	b := make([]byte, headerSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return false, fmt.Errorf("read LUKS2 header: %w", err)
	}
	if bytes.HasPrefix(b, magicFirst) {
		return true, nil
	}
	if _, err := r.ReadAt(b, headerSize); err != nil {
		return false, fmt.Errorf("read LUKS2 header: %w", err)
	}
	_, err := decode(b, headerSize)
	return err == nil, nil
}
