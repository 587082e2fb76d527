package secureboot_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/foxboron/go-uefi/efi/signature"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/secureboot"
)

var at = time.Date(2026, 11, 19, 2, 12, 54, 0, time.UTC)

func platform(t *testing.T) keys.Platform {
	t.Helper()
	return keys.Platform{PK: imagetest.Keys(t), KEK: imagetest.Keys(t), DB: imagetest.Keys(t)}
}

// TestAuth has another library read the files and check their signatures'
// signers; the firmware checks them in test/secureboot.
func TestAuth(t *testing.T) {
	p, vendor := platform(t), imagetest.Keys(t).Cert
	vars, err := secureboot.Variables(p, []*x509.Certificate{vendor}, at)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		signer keys.Pair
		certs  []*x509.Certificate
	}{
		"db": {p.KEK, []*x509.Certificate{p.DB.Cert, vendor}}, "KEK": {p.PK, []*x509.Certificate{p.KEK.Cert}},
		"PK": {p.PK, []*x509.Certificate{p.PK.Cert}},
	}
	if len(vars) != 3 || vars[2].Name != "PK" {
		t.Fatalf("got %d variables, want three, PK last", len(vars))
	}
	for _, v := range vars {
		auth, err := v.Auth()
		if err != nil {
			t.Fatal(err)
		}
		again, err := v.Auth()
		if err != nil || !bytes.Equal(auth, again) {
			t.Errorf("%s: two signatures differ, %v", v.Name, err)
		}
		r := bytes.NewReader(auth)
		header, err := signature.ReadEFIVariableAuthencation2(r)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if header.Time.Year != 2026 || header.Time.Second != 54 {
			t.Errorf("%s: time %+v, want that of the build", v.Name, header.Time)
		}
		if !bytes.Contains(header.AuthInfo.CertData, want[v.Name].signer.Cert.Raw) {
			t.Errorf("%s: not signed by the key above it", v.Name)
		}
		// edk2 wants a bare SignedData with the OID of SHA-256 at this place.
		if sha256 := []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}; !bytes.HasPrefix(header.AuthInfo.CertData[13:], sha256) {
			t.Errorf("%s: firmware finds no SHA-256 in the signature, which begins with % x", v.Name, header.AuthInfo.CertData[:24])
		}
		lists, err := signature.ReadSignatureDatabase(r)
		if err != nil || len(lists) != len(want[v.Name].certs) {
			t.Fatalf("%s: got %d lists, %v, want %d", v.Name, len(lists), err, len(want[v.Name].certs))
		}
		got, err := secureboot.AuthCertificates(auth)
		if err != nil || len(got) != len(want[v.Name].certs) {
			t.Fatalf("%s: got %d certificates, %v", v.Name, len(got), err)
		}
		for i, c := range want[v.Name].certs {
			if !got[i].Equal(c) || !bytes.Equal(lists[i].Signatures[0].Data, c.Raw) {
				t.Errorf("%s: certificate %d is another one", v.Name, i)
			}
		}
	}
}

// TestVendors are known by hash: a certificate that only has the name is not
// taken for one of theirs.
func TestVendors(t *testing.T) {
	vars, err := secureboot.Variables(platform(t), []*x509.Certificate{imagetest.Keys(t).Cert}, at)
	if err != nil {
		t.Fatal(err)
	}
	if certs, err := secureboot.OptionROMVendors(vars[0].List); err == nil {
		t.Errorf("got %d vendors, want an error: none is there", len(certs))
	}
}

func TestRefuses(t *testing.T) {
	p := platform(t)
	p.KEK.Cert = p.DB.Cert
	if _, err := secureboot.Variables(p, nil, at); err == nil || !strings.Contains(err.Error(), "KEK") {
		t.Errorf("a key of another certificate: got %v", err)
	}
	for _, b := range [][]byte{nil, make([]byte, 20), bytes.Repeat([]byte{0xff}, 60)} {
		if _, err := secureboot.AuthCertificates(b); err == nil {
			t.Errorf("%d bytes pass for an .auth file", len(b))
		}
	}
}

func TestParseCertificates(t *testing.T) {
	cert := imagetest.Keys(t).Cert
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	for name, data := range map[string][]byte{"DER": cert.Raw, "PEM": text, "two of PEM": append(text, text...)} {
		got, err := secureboot.ParseCertificates(data)
		if err != nil || len(got) == 0 || !got[len(got)-1].Equal(cert) {
			t.Errorf("%s: got %d, %v", name, len(got), err)
		}
	}
	if _, err := secureboot.ParseCertificates([]byte("neither")); err == nil {
		t.Error("text: got no error")
	}
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = secureboot.Certificates(b)
		_, _ = secureboot.AuthCertificates(b)
	})
}
