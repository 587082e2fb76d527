package uki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/pkcs7"
)

// ErrUnsigned says that a PE file carries no signature.
var ErrUnsigned = errors.New("the file is not signed")

// Signature is one Authenticode signature of a file.
type Signature struct {
	// Certs are the certificates that the signature brings along. They prove
	// nothing; they name who claims to have signed.
	Certs []*x509.Certificate
	auth  *authenticode.Authenticode
}

// Signatures reads the signatures of a PE file; none is no error.
func Signatures(pe []byte) ([]Signature, error) {
	f, err := parse(pe)
	if err != nil {
		return nil, err
	}
	return f.signatures()
}

func (f *file) signatures() ([]Signature, error) {
	var all []Signature
	for table := f.data[f.certOff:]; len(table) > 0; {
		if len(table) < winCertHeader {
			return nil, fmt.Errorf("read signature: %d stray bytes in the certificate table", len(table))
		}
		size := int(le.Uint32(table))
		padded := (size + 7) &^ 7
		if size < winCertHeader || padded > len(table) || le.Uint16(table[4:]) != winCertRevision || le.Uint16(table[6:]) != winCertPKCS7 {
			return nil, fmt.Errorf("read signature: bad certificate table entry of %d bytes", size)
		}
		auth, err := authenticode.ParseAuthenticode(table[winCertHeader:size])
		if err != nil {
			return nil, fmt.Errorf("read signature: %v", err)
		}
		all = append(all, Signature{Certs: auth.Pkcs.Certs, auth: auth})
		table = table[padded:]
	}
	return all, nil
}

// Verify refuses a PE file that is unsigned (ErrUnsigned), altered in any
// byte, or signed by none of the certificates. Certificate validity is not
// looked at, as firmware does not.
func Verify(pe []byte, certs ...*x509.Certificate) error {
	f, err := parse(pe)
	if err != nil {
		return err
	}
	sigs, err := f.signatures()
	if err != nil {
		return err
	}
	if len(sigs) == 0 {
		return ErrUnsigned
	}
	// The signature leaves out its own table, the checksum and gaps between
	// sections. The checksum, which every signer sets, covers those.
	if got, want := f.checksum(), le.Uint32(f.data[f.opt+optCheckSum:]); got != want {
		return fmt.Errorf("PE checksum is %08x, header says %08x: the file was altered", got, want)
	}
	digest := f.digest()
	err = errors.New("signed by none of the given certificates")
	for _, sig := range sigs {
		if !bytes.Equal(sig.auth.Digest, digest) {
			return fmt.Errorf("file hash is %x, signature says %x: the file was altered", digest, sig.auth.Digest)
		}
		for _, cert := range certs {
			ok, checkErr := sig.check(cert)
			if ok {
				return nil
			}
			if checkErr != nil {
				err = checkErr
			}
		}
	}
	return err
}

// check tells whether cert made the signature. The library verifies the
// signed attributes only; that these speak of this content is for us to see.
func (s Signature) check(cert *x509.Certificate) (bool, error) {
	p := s.auth.Pkcs
	content, err := innerOf(p.ContentInfo)
	if err != nil {
		return false, fmt.Errorf("signed content: %v", err)
	}
	if !s.auth.Algid.Algorithm.Equal(pkcs7.OIDDigestAlgorithmSHA256) {
		return false, fmt.Errorf("signed with hash %v, only SHA-256 is accepted", s.auth.Algid.Algorithm)
	}
	sum := sha256.Sum256(content)
	for _, si := range p.SignerInfo {
		a := si.AuthenticatedAttributes
		if a == nil || !a.ContentType.Equal(authenticode.OIDSpcIndirectDataContent) || !bytes.Equal(a.MessageDigest, sum[:]) {
			return false, errors.New("signed attributes do not belong to the signed content")
		}
	}
	if !p.HasCertificate(cert) {
		return false, nil
	}
	ok, err := p.Verify(cert)
	if err != nil {
		return false, fmt.Errorf("signature of %s does not hold: %v", cert.Subject, err)
	}
	return ok, nil
}
