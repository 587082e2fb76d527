// Package keys holds the keys that sign what firmware starts and what boxes
// update to, in files or behind a signer program. Development keys are made
// once, on first use, and live outside every build folder.
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
	"time"
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

// Load reads the pair in dir, which is not encrypted. The error matches
// fs.ErrNotExist if there is none.
func Load(dir string) (Pair, error) {
	f, err := Open(dir, nil)
	if err != nil {
		return Pair{}, err
	}
	return f.Pair("db")
}

// LoadCert reads a certificate in PEM.
func LoadCert(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, pemCert)
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

// LoadOrCreate reads the pair in dir and makes a development key set if there
// is none; created tells which. A folder that holds half a pair is an error,
// never completed. pass may be nil.
func LoadOrCreate(dir string, pass Passphrase) (p Pair, created bool, err error) {
	f, err := Open(dir, pass)
	if err != nil {
		return Pair{}, false, err
	}
	if p, err = f.Pair("db"); !errors.Is(err, fs.ErrNotExist) {
		return p, false, err
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		return Pair{}, false, fmt.Errorf("%s holds files and no whole db key pair; make what it lacks with wayside keys init, or give another folder", dir)
	}
	if _, err := Init(dir, Options{}, pass, time.Now()); err != nil {
		if p, loadErr := f.Pair("db"); loadErr == nil { // another process was first
			return p, false, nil
		}
		return Pair{}, false, err
	}
	p, err = f.Pair("db")
	return p, err == nil, err
}
