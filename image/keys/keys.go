// Package keys holds the keys that sign what firmware starts. Development
// keys are made once, on first use, and live outside every build folder.
package keys

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of the files in a key folder, both PEM.
const (
	KeyFile  = "db.key" // PKCS #8
	CertFile = "db.crt"
)

// Pair is a signing key with its certificate, as enrolled in the firmware's
// db variable. The key is RSA, so that PKCS #1 v1.5 signatures are a pure
// function of key and content.
type Pair struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// Fingerprint is the certificate's SHA-256 in hex.
func (p Pair) Fingerprint() string {
	sum := sha256.Sum256(p.Cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Check refuses a pair that cannot sign: parts missing, of the wrong kind, or
// not belonging together.
func (p Pair) Check() error {
	if p.Key == nil || p.Cert == nil {
		return errors.New("signing key: key or certificate is missing")
	}
	pub, ok := p.Key.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("signing key: is %T, firmware wants RSA", p.Key.Public())
	}
	if !pub.Equal(p.Cert.PublicKey) {
		return errors.New("signing key: does not belong to the certificate")
	}
	return nil
}

// Load reads the pair in dir. The error matches fs.ErrNotExist if there is
// none.
func Load(dir string) (Pair, error) {
	keyDER, err := readPEM(filepath.Join(dir, KeyFile), "PRIVATE KEY")
	if err != nil {
		return Pair{}, err
	}
	cert, err := LoadCert(filepath.Join(dir, CertFile))
	if err != nil {
		return Pair{}, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return Pair{}, fmt.Errorf("read signing key %s: %v", filepath.Join(dir, KeyFile), err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return Pair{}, fmt.Errorf("read signing key %s: %T cannot sign", filepath.Join(dir, KeyFile), key)
	}
	p := Pair{Key: signer, Cert: cert}
	if err := p.Check(); err != nil {
		return Pair{}, fmt.Errorf("%s: %w", dir, err)
	}
	return p, nil
}

// LoadCert reads a certificate in PEM.
func LoadCert(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %v", file, err)
	}
	return cert, nil
}

func readPEM(file, kind string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("read %s: no PEM block %q in it", file, kind)
	}
	return block.Bytes, nil
}

// LoadOrCreate reads the pair in dir and makes one if there is none; created
// tells which. A folder that holds half a pair is an error, never completed.
func LoadOrCreate(dir string) (p Pair, created bool, err error) {
	p, err = Load(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return p, false, err
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		return Pair{}, false, fmt.Errorf("make keys in %s: the folder holds other files and no whole key pair; move them away or give another folder", dir)
	}
	if err := create(dir); err != nil {
		if p, loadErr := Load(dir); loadErr == nil { // another process was first
			return p, false, nil
		}
		return Pair{}, false, err
	}
	p, err = Load(dir)
	return p, err == nil, err
}
