package uki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
)

// The sections by which a TPM is told that its owner vouches for a kernel
// image: a public key, measured with the image, and its signature on a policy
// for the measurement (systemd-measure(1)). The stub hands both to the
// initramfs as files.
const (
	PolicyKey       = ".pcrpkey" // PEM
	PolicySignature = ".pcrsig"  // JSON
)

// BuildVouched is Build with both sections, made with the policy key.
func BuildVouched(stub []byte, sections []Section, key crypto.Signer) ([]byte, error) {
	der, err := publicKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	sections = append(sections[:len(sections):len(sections)], Section{PolicyKey, text})
	pe, err := Build(stub, sections)
	if err != nil {
		return nil, err
	}
	pcr, err := PCR11(pe)
	if err != nil {
		return nil, err
	}
	signature, err := signPolicy(key, der, pcr)
	if err != nil {
		return nil, err
	}
	return Build(stub, append(sections, Section{PolicySignature, signature}))
}

func publicKey(key crypto.Signer) ([]byte, error) {
	if public, ok := key.Public().(*rsa.PublicKey); !ok || public.N.BitLen() != 2048 {
		return nil, fmt.Errorf("policy key: is %T, TPMs want RSA of 2048 bits", key.Public())
	}
	return x509.MarshalPKIXPublicKey(key.Public())
}

// signPolicy is the content of PolicySignature. The signature is PKCS #1 v1.5,
// a pure function of key and content.
func signPolicy(key crypto.Signer, der []byte, pcr PCR) ([]byte, error) {
	policy := pcrPolicy(pcr)
	sum := sha256.Sum256(policy[:]) // a policy qualifier would follow
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign the measurement: %v", err)
	}
	fingerprint := sha256.Sum256(der)
	type entry struct {
		PCRs        []int  `json:"pcrs"`
		Fingerprint string `json:"pkfp"`
		Policy      string `json:"pol"`
		Signature   []byte `json:"sig"`
	}
	return json.Marshal(map[string][]entry{"sha256": {{
		[]int{11}, hex.EncodeToString(fingerprint[:]), hex.EncodeToString(policy[:]), signature,
	}}})
}

// pcrPolicy is the digest of a policy that wants one value in register 11 of
// the SHA-256 bank (TPM 2.0 Library, part 3, TPM2_PolicyPCR).
func pcrPolicy(pcr PCR) [sha256.Size]byte {
	value := sha256.Sum256(pcr[:])
	b := make([]byte, sha256.Size)                 // where every policy starts
	b = append(b, 0, 0, 1, 0x7f)                   // TPM_CC_PolicyPCR
	b = append(b, 0, 0, 0, 1, 0, 0x0b, 3, 0, 8, 0) // one selection: SHA-256, three bytes, bit 11
	return sha256.Sum256(append(b, value[:]...))
}
