// Package luks makes and opens encrypted volumes in the LUKS2 format, so that
// what a box has written can be opened anywhere by cryptsetup (LUKS2 On-Disk
// Format Specification, version 1.1.3).
package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/waysideos/wayside/init/gpt"
)

// Layout of a volume, in bytes: two copies of the header, the areas of the key
// slots, the data.
const (
	headerSize = 16 << 10
	binarySize = 4096 // of a header; JSON text follows
	areas      = 2 * headerSize
	areaSize   = 252 << 10 // of a key slot: 4000 stripes of 64 bytes, to whole blocks
	slots      = 4         // an old and a new one for either way in
	// DataOffset is where the encrypted file system begins, as cryptsetup has it.
	DataOffset = 16 << 20
)

var (
	magicFirst  = []byte("LUKS\xba\xbe")
	magicSecond = []byte("SKUL\xba\xbe")
)

// Fields of the binary header, by offset.
const (
	atVersion  = 6
	atSize     = 8
	atSequence = 16
	atLabel    = 24
	atSumName  = 72
	atSalt     = 104
	atUUID     = 168
	atOffset   = 256
	atSum      = 448
	sumSize    = 64
)

// ErrNone says that a partition carries no volume.
var ErrNone = errors.New("no LUKS2 header")

// metadata is the JSON part of the header.
type metadata struct {
	Keyslots map[string]keyslot         `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]segment         `json:"segments"`
	Digests  map[string]digest          `json:"digests"`
	Config   config                     `json:"config"`
}

type keyslot struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	AF      struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Area struct {
		Type       string `json:"type"`
		Offset     number `json:"offset"`
		Size       number `json:"size"`
		Encryption string `json:"encryption"`
		KeySize    int    `json:"key_size"`
	} `json:"area"`
	KDF kdf `json:"kdf"`
}

type kdf struct {
	Type       string `json:"type"`
	Hash       string `json:"hash"`
	Iterations int    `json:"iterations"`
	Salt       []byte `json:"salt"`
}

type segment struct {
	Type       string `json:"type"`
	Offset     number `json:"offset"`
	Size       string `json:"size"` // "dynamic": to the end of the device
	IVTweak    number `json:"iv_tweak"`
	Encryption string `json:"encryption"`
	SectorSize int    `json:"sector_size"`
}

type digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int      `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

type config struct {
	JSONSize     number `json:"json_size"`
	KeyslotsSize number `json:"keyslots_size"`
}

// number is an integer that LUKS2 writes as text.
type number int64

func (n number) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(n), 10), nil }

func (n *number) UnmarshalText(b []byte) error {
	v, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no size", b)
	}
	*n = number(v)
	return nil
}

// header is one copy.
type header struct {
	sequence uint64
	uuid     string
	label    string
	meta     metadata
}

// encode writes the copy that lies at offset. salt is random and hides nothing;
// it makes equal headers differ.
func (h header) encode(offset int64, salt []byte) ([]byte, error) {
	text, err := json.Marshal(h.meta)
	if err != nil {
		return nil, err
	}
	if len(text) >= headerSize-binarySize {
		return nil, fmt.Errorf("metadata of %d bytes does not fit in the header", len(text))
	}
	b := make([]byte, headerSize)
	copy(b, magicFirst)
	if offset != 0 {
		copy(b, magicSecond)
	}
	be := binary.BigEndian
	be.PutUint16(b[atVersion:], 2)
	be.PutUint64(b[atSize:], headerSize)
	be.PutUint64(b[atSequence:], h.sequence)
	copy(b[atLabel:atSumName-1], h.label)
	copy(b[atSumName:], "sha256")
	copy(b[atSalt:atUUID], salt)
	copy(b[atUUID:], h.uuid)
	be.PutUint64(b[atOffset:], uint64(offset))
	copy(b[binarySize:], text)
	sum := sha256.Sum256(b)
	copy(b[atSum:], sum[:])
	return b, nil
}

// decode reads the copy that lies at offset. A volume of another layout than
// ours is refused, not guessed at.
func decode(b []byte, offset int64) (header, error) {
	var h header
	magic := magicFirst
	if offset != 0 {
		magic = magicSecond
	}
	be := binary.BigEndian
	if !bytes.HasPrefix(b, magic) {
		return h, ErrNone
	}
	sum := bytes.Clone(b[atSum:][:sumSize])
	cleared := bytes.Clone(b)
	clear(cleared[atSum:][:sumSize])
	if want := sha256.Sum256(cleared); !bytes.Equal(want[:], sum[:len(want)]) {
		return h, errors.New("LUKS2 header: wrong checksum")
	}
	if be.Uint16(b[atVersion:]) != 2 || be.Uint64(b[atSize:]) != headerSize || be.Uint64(b[atOffset:]) != uint64(offset) {
		return h, errors.New("LUKS2 header: version, size or place is not ours")
	}
	h.sequence, h.uuid, h.label = be.Uint64(b[atSequence:]), cString(b[atUUID:][:40]), cString(b[atLabel:][:48])
	text, _, _ := bytes.Cut(b[binarySize:], []byte{0})
	if err := json.Unmarshal(text, &h.meta); err != nil {
		return h, fmt.Errorf("LUKS2 header: %v", err)
	}
	return h, h.meta.check()
}

// check refuses metadata that this package could not have written: what it
// reads is then used as it is.
func (m metadata) check() error {
	s, ok := m.Segments["0"]
	d, okDigest := m.Digests["0"]
	switch {
	case !ok || !okDigest || len(m.Segments) != 1 || len(m.Digests) != 1:
		return errors.New("LUKS2 header: want one segment and one digest")
	case s.Type != "crypt" || s.Encryption != cipherName || s.SectorSize != gpt.Sector || s.Offset != DataOffset || s.Size != "dynamic" || s.IVTweak != 0:
		return fmt.Errorf("LUKS2 header: segment %+v is not ours", s)
	case d.Type != "pbkdf2" || d.Hash != "sha256" || d.Iterations < 1 || d.Iterations > maxIterations:
		return errors.New("LUKS2 header: digest is not ours")
	}
	for name, k := range m.Keyslots {
		a := k.Area
		if k.Type != "luks2" || k.KeySize != keySize || k.AF.Stripes != stripes || k.AF.Hash != "sha256" ||
			a.Encryption != cipherName || a.KeySize != keySize || a.Size != areaSize ||
			a.Offset < areas || a.Offset > DataOffset-areaSize ||
			k.KDF.Type != "pbkdf2" || k.KDF.Hash != "sha256" || k.KDF.Iterations < 1 || k.KDF.Iterations > maxIterations {
			return fmt.Errorf("LUKS2 header: key slot %s is not ours", name)
		}
	}
	return nil
}

// read returns the newest whole copy of the header.
func read(r io.ReaderAt) (header, error) {
	var best header
	found := false
	var errs []error
	for _, offset := range []int64{0, headerSize} {
		b := make([]byte, headerSize)
		if _, err := r.ReadAt(b, offset); err != nil {
			return header{}, fmt.Errorf("read LUKS2 header: %w", err)
		}
		h, err := decode(b, offset)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !found || h.sequence > best.sequence {
			best, found = h, true
		}
	}
	if found {
		return best, nil
	}
	if errors.Is(errs[0], ErrNone) && errors.Is(errs[1], ErrNone) {
		return header{}, ErrNone
	}
	return header{}, errors.Join(errs...)
}

func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// uuid writes 16 random bytes as a UUID of version 4.
func uuid(b []byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	x := hex.EncodeToString(b)
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
