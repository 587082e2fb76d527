package uki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/pkcs7"

	"github.com/waysideos/wayside/image/keys"
)

// A certificate table entry, WIN_CERTIFICATE: length, revision, type.
const (
	winCertHeader   = 8
	winCertRevision = 0x0200
	winCertPKCS7    = 0x0002
)

// Sign appends an Authenticode signature. The bytes depend on file, key and
// time alone; the time is stated, not proven. A signed file is refused.
func Sign(pe []byte, pair keys.Pair, at time.Time) ([]byte, error) {
	if err := pair.Check(); err != nil {
		return nil, err
	}
	f, err := parse(slices.Clone(pe))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if f.certLen != 0 {
		return nil, fmt.Errorf("sign: the file is signed already")
	}
	f.pad(8) // the table must begin at a multiple of 8, and padding is hashed
	f.certOff = len(f.data)
	digest := f.digest()
	signature, err := signedData(pair, digest, at)
	if err != nil {
		return nil, fmt.Errorf("sign: %v", err)
	}
	entry := make([]byte, winCertHeader, winCertHeader+len(signature))
	le.PutUint32(entry, uint32(winCertHeader+len(signature)))
	le.PutUint16(entry[4:], winCertRevision)
	le.PutUint16(entry[6:], winCertPKCS7)
	f.data = append(append(f.data, entry...), signature...)
	f.pad(8)
	f.certLen = len(f.data) - f.certOff
	le.PutUint32(f.data[f.opt+optCertTable:], uint32(f.certOff))
	le.PutUint32(f.data[f.opt+optCertTable+4:], uint32(f.certLen))
	f.setChecksum()
	return f.data, nil
}

// digest is the Authenticode hash: everything but the checksum, the place of
// the certificate table, the table itself, and gaps between sections (which
// are never loaded).
func (f *file) digest() []byte {
	h := sha256.New()
	h.Write(f.data[:f.opt+optCheckSum])
	h.Write(f.data[f.opt+optCheckSum+4 : f.opt+optCertTable])
	h.Write(f.data[f.opt+optCertTable+8 : f.headers])
	hashed := f.headers
	inFile := slices.Clone(f.sections)
	slices.SortStableFunc(inFile, func(a, b section) int { return int(int64(a.rawOff) - int64(b.rawOff)) })
	for _, s := range inFile {
		if s.rawSize == 0 {
			continue // its place in the file means nothing
		}
		h.Write(f.data[s.rawOff:][:s.rawSize])
		hashed += int(s.rawSize)
	}
	if hashed < f.certOff {
		h.Write(f.data[hashed:f.certOff])
	}
	return h.Sum(nil)
}

// PKCS #7 as of RFC 2315, what Authenticode uses of it.
type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue // [0] EXPLICIT
	}
	pkcs7SignedData struct {
		Version          int
		DigestAlgorithms []pkix.AlgorithmIdentifier `asn1:"set"`
		Content          contentInfo
		Certificates     asn1.RawValue // [0] IMPLICIT
		Signers          []signerInfo  `asn1:"set"`
	}
	signerInfo struct {
		Version             int
		IssuerAndSerial     issuerAndSerial
		DigestAlgorithm     pkix.AlgorithmIdentifier
		Attributes          asn1.RawValue // [0] IMPLICIT
		EncryptionAlgorithm pkix.AlgorithmIdentifier
		Signature           []byte
	}
	issuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
)

// signedData returns the DER of the signature. The library's own function
// stamps the time of day, so only its parts are used.
func signedData(pair keys.Pair, digest []byte, at time.Time) ([]byte, error) {
	content, err := spcContent(digest)
	if err != nil {
		return nil, err
	}
	contentSum := sha256.Sum256(content)
	attributes := (&pkcs7.Attributes{
		ContentType:   authenticode.OIDSpcIndirectDataContent,
		MessageDigest: contentSum[:],
		SigningTime:   at.UTC(),
	}).Marshal()
	sum := sha256.Sum256(attributes)
	signature, err := pair.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	inner, err := innerOf(attributes)
	if err != nil {
		return nil, err
	}
	sha := pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDDigestAlgorithmSHA256, Parameters: asn1.NullRawValue}
	body, err := asn1.Marshal(pkcs7SignedData{
		Version:          1,
		DigestAlgorithms: []pkix.AlgorithmIdentifier{sha},
		Content:          contentInfo{authenticode.OIDSpcIndirectDataContent, tagged(sequence(content))},
		Certificates:     tagged(pair.Cert.Raw),
		Signers: []signerInfo{{
			Version:             1,
			IssuerAndSerial:     issuer(pair.Cert),
			DigestAlgorithm:     sha,
			Attributes:          tagged(inner),
			EncryptionAlgorithm: pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSA, Parameters: asn1.NullRawValue},
			Signature:           signature,
		}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{pkcs7.OIDSignedData, tagged(body)})
}

// spcContent is the content that is signed, a SPC_INDIRECT_DATA_CONTENT with
// the file's digest, without its outer header.
func spcContent(digest []byte) ([]byte, error) {
	return authenticode.CreateSpcIndirectDataContent(digest, crypto.SHA256)
}

func issuer(cert *x509.Certificate) issuerAndSerial {
	return issuerAndSerial{asn1.RawValue{FullBytes: cert.RawIssuer}, cert.SerialNumber}
}

// tagged wraps content in a constructed [0].
func tagged(content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}
}

func sequence(content []byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: content})
	if err != nil {
		panic(err) // a raw value of a known tag always marshals
	}
	return der
}

// innerOf strips the outer header of a DER value.
func innerOf(der []byte) ([]byte, error) {
	var v asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("one DER value expected")
	}
	return v.Bytes, nil
}
