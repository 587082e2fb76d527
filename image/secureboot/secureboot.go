// Package secureboot makes the firmware variables by which a machine belongs
// to its owner: PK, KEK and db, as plain content for the variable store of a
// virtual machine, and signed, as .auth files that a boot loader enrols.
package secureboot

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/foxboron/go-uefi/pkcs7"

	"github.com/waysideos/wayside/image/keys"
)

// GUID is in the byte order of UEFI: the first three fields little endian.
type GUID [16]byte

var (
	globalVendor   = mustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c") // EFI_GLOBAL_VARIABLE
	databaseVendor = mustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // EFI_IMAGE_SECURITY_DATABASE_GUID
	certX509       = mustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072") // EFI_CERT_X509_GUID
	certPKCS7      = mustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7") // EFI_CERT_TYPE_PKCS7_GUID
	// owner marks what is ours in the firmware's lists: any value does, and
	// this one is nobody else's.
	owner = mustGUID("b9a6d5f0-6b52-4d0f-9a5e-3d1f0d1b7c11")
	// vendorOwner is Microsoft's, by which firmware updates find its entries.
	vendorOwner = mustGUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
)

// Attributes of the three variables: non-volatile, at boot and run time,
// written by time-based authentication (UEFI 2.10, section 8.2).
const Attributes = 0x27

// Variable is one of the three.
type Variable struct {
	Name   string
	Vendor GUID
	Time   [16]byte // EFI_TIME
	List   []byte   // EFI_SIGNATURE_LISTs
	signer keys.Pair
}

// Variables returns db, KEK and PK, in the order in which they are to be
// written: the last one ends the firmware's setup mode. db holds our
// certificate and those of vendors that are kept. The bytes depend on nothing
// but the arguments.
func Variables(p keys.Platform, vendors []*x509.Certificate, at time.Time) ([]Variable, error) {
	for name, pair := range map[string]keys.Pair{"PK": p.PK, "KEK": p.KEK, "db": p.DB} {
		if err := pair.Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	db := signatureList(owner, p.DB.Cert)
	for _, cert := range vendors {
		db = append(db, signatureList(vendorOwner, cert)...)
	}
	stamp := efiTime(at)
	return []Variable{
		{"db", databaseVendor, stamp, db, p.KEK},
		{"KEK", globalVendor, stamp, signatureList(owner, p.KEK.Cert), p.PK},
		{"PK", globalVendor, stamp, signatureList(owner, p.PK.Cert), p.PK},
	}, nil
}

var le = binary.LittleEndian

// signatureList is an EFI_SIGNATURE_LIST of one certificate: lists hold
// entries of one size, and certificates differ (UEFI 2.10, section 32.4.1).
func signatureList(owner GUID, cert *x509.Certificate) []byte {
	entry := uint32(len(owner) + len(cert.Raw))
	b := slices.Clone(certX509[:])
	b = le.AppendUint32(b, 28+entry)
	b = le.AppendUint32(b, 0) // signature header
	b = le.AppendUint32(b, entry)
	return append(append(b, owner[:]...), cert.Raw...)
}

// Auth is the content of an .auth file, what SetVariable takes: an
// EFI_VARIABLE_AUTHENTICATION_2 and the list (UEFI 2.10, section 8.2.2).
func (v Variable) Auth() ([]byte, error) {
	var signed []byte
	for _, u := range utf16.Encode([]rune(v.Name)) {
		signed = le.AppendUint16(signed, u)
	}
	signed = append(signed, v.Vendor[:]...)
	signed = le.AppendUint32(signed, Attributes)
	signed = append(append(signed, v.Time[:]...), v.List...)
	// Without attributes, which would hold the time of day.
	der, err := pkcs7.SignPKCS7(v.signer.Key, v.signer.Cert, pkcs7.OIDData, signed, pkcs7.NoAttr())
	if err != nil {
		return nil, fmt.Errorf("sign variable %s: %v", v.Name, err)
	}
	signature, err := withoutContentInfo(der)
	if err != nil {
		return nil, fmt.Errorf("sign variable %s: %v", v.Name, err)
	}
	const certHeader = 8 + 16 // WIN_CERTIFICATE and the type's GUID
	b := slices.Clone(v.Time[:])
	b = le.AppendUint32(b, uint32(certHeader+len(signature)))
	b = le.AppendUint16(b, 0x0200) // revision
	b = le.AppendUint16(b, 0x0ef1) // WIN_CERT_TYPE_EFI_GUID
	b = append(b, certPKCS7[:]...)
	return append(append(b, signature...), v.List...), nil
}

// withoutContentInfo unwraps the SignedData, which is what the variable's
// header holds. Of the explicit tag around it nothing may be left: firmware
// looks for the hash's OID at a fixed offset.
func withoutContentInfo(der []byte) ([]byte, error) {
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("unwrap the signature: %v", err)
	}
	return info.Content.Bytes, nil
}

// efiTime is an EFI_TIME to the second, as authenticated variables want it:
// all else is zero.
func efiTime(t time.Time) (b [16]byte) {
	t = t.UTC()
	le.PutUint16(b[:], uint16(t.Year()))
	for i, n := range []int{int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()} {
		b[2+i] = byte(n)
	}
	return b
}

func mustGUID(text string) (g GUID) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(g) {
		panic("GUID " + text)
	}
	copy(g[:], b)
	for _, field := range [][]byte{g[0:4], g[4:6], g[6:8]} {
		slices.Reverse(field)
	}
	return g
}
