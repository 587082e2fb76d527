package keys

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const rsaBits = 2048 // what every UEFI firmware must support

// Validity is fixed and wide: firmware has no trusted clock and does not look
// at it, and a development key needs no renewal.
var (
	notBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// create makes a key pair in a folder beside dir and renames it, so that dir
// holds a whole pair or none.
func create(dir string) error {
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	temp, err := os.MkdirTemp(parent, ".keys-*") // mode 0700
	if err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	defer os.RemoveAll(temp)
	key, cert, err := generate()
	if err != nil {
		return fmt.Errorf("make keys: %v", err)
	}
	if err := writePEM(filepath.Join(temp, KeyFile), "PRIVATE KEY", key); err != nil {
		return err
	}
	if err := writePEM(filepath.Join(temp, CertFile), "CERTIFICATE", cert); err != nil {
		return err
	}
	_ = os.Remove(dir) // an empty folder gives way; os.Rename takes no folder for a target
	if err := os.Rename(temp, dir); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	return nil
}

func generate() (keyDER, certDER []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: "Wayside development key"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	certDER, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err = x509.MarshalPKCS8PrivateKey(key)
	return keyDER, certDER, err
}

// writePEM writes a new file of mode 0600 and syncs it: a lost key cannot be
// made again.
func writePEM(file, kind string, der []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
