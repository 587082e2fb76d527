package debian

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// release is what a verified InRelease file says.
type release struct {
	codename   string
	date       time.Time
	validUntil time.Time // zero: for ever, as stable itself is
	byHash     bool
	files      map[string]signedFile // path below dists/<suite>/ -> content
}

type signedFile struct {
	size   int64
	sha256 string // hex, lower case
}

// openRelease verifies an InRelease file and parses the signed part of it; what
// stands around that part is not looked at. now decides whether keys and
// signatures are expired.
func openRelease(data []byte, keys Keys, now time.Time) (*release, error) {
	block, _ := clearsign.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("not a clear-signed file: %w", ErrSignature)
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	if _, err := block.VerifySignature(keys, config); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return parseRelease(block.Plaintext)
}

func parseRelease(data []byte) (*release, error) {
	s := newStanzas(bytes.NewReader(data), "Codename", "Date", "Valid-Until", "Acquire-By-Hash", "SHA256")
	if err := s.next(); err != nil {
		return nil, fmt.Errorf("read release: %v", err)
	}
	r := &release{codename: s.text(0), byHash: s.text(3) == "yes"}
	var err error
	if r.date, err = time.Parse(time.RFC1123, s.text(1)); err != nil {
		return nil, fmt.Errorf("read release: Date: %v", err)
	}
	if until := s.text(2); until != "" {
		if r.validUntil, err = time.Parse(time.RFC1123, until); err != nil {
			return nil, fmt.Errorf("read release: Valid-Until: %v", err)
		}
	}
	if r.files, err = parseHashes(s.text(4)); err != nil {
		return nil, fmt.Errorf("read release: SHA256: %v", err)
	}
	return r, nil
}

// parseHashes reads lines of "sha256 size path".
func parseHashes(text string) (map[string]signedFile, error) {
	files := map[string]signedFile{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) != 3 || !isSHA256(words[0]) {
			return nil, fmt.Errorf("line %q is not `hash size path`", strings.TrimSpace(line))
		}
		size, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("line %q has no size", strings.TrimSpace(line))
		}
		files[words[2]] = signedFile{size: size, sha256: words[0]}
	}
	if len(files) == 0 {
		return nil, errors.New("names no files")
	}
	return files, nil
}

// isSHA256 tells whether s is a SHA-256 in lower-case hex.
func isSHA256(s string) bool {
	if len(s) != 64 || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}
