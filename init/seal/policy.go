package seal

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// Policy is what a kernel image brings along: the owner's policy key, which is
// measured with the image, and the key's word on that measurement.
type Policy struct {
	Key    *rsa.PublicKey
	signed []signed
}

// signed is one entry of the signature file: a policy for one value of
// register 11 (systemd-measure(1)).
type signed struct {
	PCRs        []int  `json:"pcrs"`
	Fingerprint string `json:"pkfp"` // hex SHA-256 of the key in DER
	Policy      string `json:"pol"`  // hex
	Signature   []byte `json:"sig"`
}

// ParsePolicy reads the sections .pcrpkey (PEM) and .pcrsig (JSON) of a kernel
// image, which systemd's stub hands over as files.
func ParsePolicy(key, signatures []byte) (Policy, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return Policy{}, errors.New("read the policy key: no PEM in it")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Policy{}, fmt.Errorf("read the policy key: %v", err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok || public.E != 65537 {
		return Policy{}, errors.New("read the policy key: want RSA with exponent 65537")
	}
	var banks map[string][]signed
	if err := json.Unmarshal(signatures, &banks); err != nil {
		return Policy{}, fmt.Errorf("read the policy's signatures: %v", err)
	}
	return Policy{Key: public, signed: banks["sha256"]}, nil
}

// Fingerprint tells one policy key from another: hex SHA-256 of it in DER.
func (p Policy) Fingerprint() string {
	if p.Key == nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(p.Key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// find returns the key's signature on a policy.
func (p Policy) find(policy []byte) ([]byte, bool) {
	for _, s := range p.signed {
		digest, err := hex.DecodeString(s.Policy)
		if err == nil && bytes.Equal(digest, policy) && s.Fingerprint == p.Fingerprint() {
			return s.Signature, true
		}
	}
	return nil, false
}
