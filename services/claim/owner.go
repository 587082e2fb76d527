package claim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// Role is the update role whose keys sign claims: whoever says what a box runs
// says whose it is. No other key of the set is made for a person's desk.
const Role = "targets"

// owner is the part of an update root that says who may sign.
type owner struct {
	Signed struct {
		Keys map[string]struct {
			Type  string `json:"keytype"`
			Value struct {
				Public string `json:"public"`
			} `json:"keyval"`
		} `json:"keys"`
		Roles map[string]struct {
			KeyIDs    []string `json:"keyids"`
			Threshold int      `json:"threshold"`
		} `json:"roles"`
	} `json:"signed"`
}

// readOwner reads TUF root metadata that is trusted already: it lies in the
// verified root, or in the image whose signatures were checked.
func readOwner(root []byte) (*owner, error) {
	if root == nil {
		return nil, errors.New("this image holds no update root (it was built without update keys), and takes no claims")
	}
	o := &owner{}
	if err := json.Unmarshal(root, o); err != nil || o.Signed.Roles[Role].Threshold < 1 {
		return nil, errors.New("the update root of this image is not readable")
	}
	return o, nil
}

// verify wants as many keys of the role as its threshold.
func (o *owner) verify(message []byte, signatures []Signature) error {
	role := o.Signed.Roles[Role]
	good := map[string]bool{}
	for _, s := range signatures {
		if !slices.Contains(role.KeyIDs, s.KeyID) {
			continue
		}
		key := o.Signed.Keys[s.KeyID]
		if public := parseKey(key.Type, key.Value.Public); public != nil && verifies(public, message, s.Sig) {
			good[s.KeyID] = true
		}
	}
	if len(good) < role.Threshold {
		return fmt.Errorf("it is not signed by the owner of this image: %d of %d keys of the role %s", len(good), role.Threshold, Role)
	}
	return nil
}

// parseKey reads a key as TUF metadata has it, hex or PEM; nil is none.
func parseKey(kind, text string) crypto.PublicKey {
	if kind == "ed25519" {
		if raw, err := hex.DecodeString(text); err == nil && len(raw) == ed25519.PublicKeySize {
			return ed25519.PublicKey(raw)
		}
		return nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil
	}
	return public
}

// verifies knows the schemes that image/keys signs by.
func verifies(public crypto.PublicKey, message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch k := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return false
}
