package secureboot

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
)

// optionROM names the certificates that sign the option ROMs of graphics,
// network and storage cards, by SHA-256. Without them in db a machine that has
// such a card may not get as far as its own setup screen. Those that sign
// Windows are not among them: nothing of ours is started by it.
var optionROM = map[string]string{
	// Signs option ROMs and other systems' boot loaders alike.
	"48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507": "Microsoft Corporation UEFI CA 2011",
}

// OptionROMVendors picks the certificates for option ROMs out of signature
// lists, such as the db variable that a distribution enrols. It is an error if
// one is not there: they are known by their hashes, not by their names.
func OptionROMVendors(db []byte) ([]*x509.Certificate, error) {
	certs, err := Certificates(db)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		if _, known := optionROM[hex.EncodeToString(sum[:])]; known {
			all = append(all, c)
		}
	}
	if len(all) != len(optionROM) {
		return nil, fmt.Errorf("find the option ROM vendors' certificates: got %d of %d", len(all), len(optionROM))
	}
	return all, nil
}

// Certificates returns the X.509 certificates in EFI_SIGNATURE_LISTs.
func Certificates(lists []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for len(lists) > 0 {
		if len(lists) < 28 {
			return nil, fmt.Errorf("read signature lists: %d stray bytes", len(lists))
		}
		size, head, entry := uint64(le.Uint32(lists[16:])), uint64(le.Uint32(lists[20:])), uint64(le.Uint32(lists[24:]))
		if size < 28+head || size > uint64(len(lists)) || entry <= 16 || (size-28-head)%entry != 0 {
			return nil, fmt.Errorf("read signature lists: list of %d bytes with entries of %d", size, entry)
		}
		if bytes.Equal(lists[:16], certX509[:]) {
			for e := lists[28+head : size]; len(e) > 0; e = e[entry:] {
				c, err := x509.ParseCertificate(e[16:entry])
				if err != nil {
					return nil, fmt.Errorf("read signature lists: %v", err)
				}
				all = append(all, c)
			}
		}
		lists = lists[size:]
	}
	return all, nil
}

// AuthCertificates returns the certificates that an .auth file enrols.
func AuthCertificates(auth []byte) ([]*x509.Certificate, error) {
	const stamp = 16 // EFI_TIME; the certificate's length follows
	if len(auth) < stamp+4 {
		return nil, fmt.Errorf("read .auth file: %d bytes", len(auth))
	}
	size := uint64(le.Uint32(auth[stamp:]))
	if size < 24 || stamp+size > uint64(len(auth)) {
		return nil, fmt.Errorf("read .auth file: signature of %d bytes in a file of %d", size, len(auth))
	}
	return Certificates(auth[stamp+size:])
}

// ParseCertificates reads certificates in PEM, or one in DER.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	if block, _ := pem.Decode(data); block == nil {
		c, err := x509.ParseCertificate(data)
		if err != nil {
			return nil, fmt.Errorf("neither PEM nor DER: %v", err)
		}
		return []*x509.Certificate{c}, nil
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q is no certificate", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
