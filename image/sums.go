package image

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/waysideos/wayside/image/keys"
)

// Suffixes of the checksums of an image's files, as sha256sum prints them,
// and of their signature: PKCS #1 v1.5 with SHA-256, its bytes alone.
const (
	SumsSuffix      = ".sha256"
	SignatureSuffix = ".sha256.sig"
)

func signSums(sums []byte, key keys.Pair) ([]byte, error) {
	digest := sha256.Sum256(sums)
	signature, err := key.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign the checksums: %w", err)
	}
	return signature, nil
}

// CheckSums checks a file against the signed checksums that lie beside it. The
// error matches fs.ErrNotExist if there are none.
func CheckSums(file string, certs ...*x509.Certificate) error {
	stem := strings.TrimSuffix(strings.TrimSuffix(file, PackedSuffix), ".img")
	sums, err := os.ReadFile(stem + SumsSuffix)
	if err != nil {
		return err
	}
	signature, err := os.ReadFile(stem + SignatureSuffix)
	if err != nil {
		return err
	}
	if err := verifySums(sums, signature, certs); err != nil {
		return fmt.Errorf("%s: %w", stem+SumsSuffix, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if name != filepath.Base(file) {
			continue
		}
		if sum != hex.EncodeToString(h.Sum(nil)) {
			return fmt.Errorf("%s is not what %s says: it was altered, or not downloaded to its end", file, stem+SumsSuffix)
		}
		return nil
	}
	return fmt.Errorf("%s says nothing of %s", stem+SumsSuffix, filepath.Base(file))
}

func verifySums(sums, signature []byte, certs []*x509.Certificate) error {
	digest := sha256.Sum256(sums)
	for _, c := range certs {
		if pub, ok := c.PublicKey.(*rsa.PublicKey); ok && rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], signature) == nil {
			return nil
		}
	}
	return errors.New("not signed by a key that is trusted here")
}
