package keys

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/youmark/pkcs8"
)

// PEM types of a private key's file, both of which other tools read: openssl,
// sbsign, PKCS #11 importers.
const (
	pemPlain     = "PRIVATE KEY"           // PKCS #8, RFC 5958
	pemEncrypted = "ENCRYPTED PRIVATE KEY" // the same, section 3: PBES2 with scrypt (RFC 7914) and AES-256-CBC
	pemPublic    = "PUBLIC KEY"            // SubjectPublicKeyInfo, RFC 5280
	pemCert      = "CERTIFICATE"
)

// scryptCost needs 16 MiB, the most that OpenSSL takes without being told to,
// five times over.
var scryptCost = pkcs8.Opts{
	Cipher:  pkcs8.AES256CBC,
	KDFOpts: pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 1 << 14, BlockSize: 8, ParallelizationParameter: 5},
}

// encodeKey returns the PEM of a private key, encrypted if there is a
// passphrase.
func encodeKey(key crypto.Signer, pass []byte) ([]byte, error) {
	kind := pemPlain
	if len(pass) > 0 {
		kind = pemEncrypted
	}
	der, err := pkcs8.MarshalPrivateKey(key, pass, &scryptCost)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil
}

// readKey reads a private key, asking for its passphrase if it has one.
func (f *Folder) readKey(name string) (crypto.Signer, error) {
	file := f.keyFile(name)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemPlain && block.Type != pemEncrypted {
		return nil, fmt.Errorf("read key %s: no PEM block %q or %q in it", file, pemPlain, pemEncrypted)
	}
	var pass []byte
	if block.Type == pemEncrypted {
		if pass, err = f.pass(name, false); err != nil {
			return nil, err
		}
		if len(pass) == 0 {
			return nil, fmt.Errorf("read key %s: it is encrypted and the passphrase is empty", file)
		}
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, pass)
	if err != nil && block.Type == pemEncrypted {
		return nil, fmt.Errorf("read key %s: wrong passphrase, or the file is damaged", file)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %v", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read key %s: %T cannot sign", file, key)
	}
	return signer, nil
}

// isEncrypted tells whether a key lies in an encrypted file.
func (f *Folder) isEncrypted(name string) bool {
	_, err := readPEM(f.keyFile(name), pemEncrypted)
	return err == nil
}

func loadPublic(file string) (crypto.PublicKey, error) {
	der, err := readPEM(file, pemPublic)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("read public key %s: %v", file, err)
	}
	return key, nil
}

func encodePublic(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der})
}

// writeNew writes a file of mode 0600 that must not exist yet and syncs it:
// a lost key cannot be made again. Under its name there is the whole or
// nothing.
func writeNew(file string, data []byte) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("write %s: it exists", file)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Sync()
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	return err
}

// syncDir makes the names in a folder last. Not every file system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrInvalid) {
		return err
	}
	return nil
}
