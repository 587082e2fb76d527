package keys

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

const rsaBits = 2048 // what every UEFI firmware must support

// platformKeys are the keys with certificates that firmware knows (UEFI 2.10,
// section 32.3): PK changes KEK, KEK changes db, db signs what is started.
var platformKeys = []string{"PK", "KEK", "db"}

// Validity is fixed and wide: firmware has no trusted clock and does not look
// at it, and a development key needs no renewal.
var (
	notBefore = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Options say what key set to make; the zero value is for development.
type Options struct {
	RootKeys      int    // default 1
	RootThreshold int    // how many of them sign a root; default 1
	Name          string // whose keys they are, for the certificates; default "Wayside development"
}

// Init makes what a folder lacks of a whole key set, and returns the names of
// what it made. A folder that is not there yet appears whole or not at all.
func Init(dir string, o Options, pass Passphrase, now time.Time) (made []string, err error) {
	o.RootKeys, o.RootThreshold = cmp.Or(o.RootKeys, 1), cmp.Or(o.RootThreshold, 1)
	o.Name = cmp.Or(o.Name, "Wayside development")
	if o.RootThreshold < 1 || o.RootThreshold > o.RootKeys {
		return nil, fmt.Errorf("make keys: %d of %d root keys cannot sign", o.RootThreshold, o.RootKeys)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		return initIn(dir, o, pass, now)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	temp, err := os.MkdirTemp(parent, ".keys-*") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	defer os.RemoveAll(temp)
	if made, err = initIn(temp, o, pass, now); err != nil {
		return nil, err
	}
	_ = os.Remove(dir) // an empty folder gives way; os.Rename takes no folder for a target
	if err := os.Rename(temp, dir); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	return made, syncDir(parent)
}

func initIn(dir string, o Options, pass Passphrase, now time.Time) (made []string, err error) {
	f, err := Open(dir, pass)
	if err != nil {
		return nil, err
	}
	for _, name := range platformKeys {
		haveCert, haveKey := exists(f.certFile(name)), exists(f.keyFile(name)) || f.conf.Signers[name] != nil
		if haveCert && haveKey {
			continue
		}
		if haveCert || haveKey && f.conf.Signers[name] == nil {
			return made, fmt.Errorf("make keys in %s: there is one half of %s, and it is never completed; move it away or bring the other half back", dir, name)
		}
		if err := f.makePair(name, o.Name+" "+name); err != nil {
			return made, fmt.Errorf("make keys: %w", err)
		}
		made = append(made, name)
	}
	roots, err := f.Roots()
	if err != nil || len(roots) > 0 {
		return made, err
	}
	tuf, err := f.firstRoot(o, now)
	return append(made, tuf...), err
}

// firstRoot makes the keys of the TUF roles and the root that names them.
// Without that root no key counts, so what an earlier attempt left is used.
func (f *Folder) firstRoot(o Options, now time.Time) (made []string, err error) {
	root := metadata.Root(expires(now, f.Expiry(RoleRoot)))
	for _, role := range tufRoles {
		count := 1
		if role == RoleRoot {
			count = o.RootKeys
		}
		for n := 1; n <= count; n++ {
			k, err := f.makeTUFKey(numbered(role, n))
			if err == nil {
				err = root.Signed.AddKey(k.meta, role)
			}
			if err != nil {
				return made, fmt.Errorf("make keys: %w", err)
			}
			made = append(made, k.name)
		}
	}
	root.Signed.Roles[RoleRoot].Threshold = o.RootThreshold
	if err := SignRole(f, RoleRoot, root, root); err != nil {
		return made, err
	}
	return made, f.writeRoot(root)
}

// makeTUFKey makes a key, or takes the one that a signer or a file has, and
// keeps its public half.
func (f *Folder) makeTUFKey(name string) (tufKey, error) {
	key, err := f.makeKey(name, func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
	if err != nil {
		return tufKey{}, err
	}
	if err := checkTUFKey(key.Public()); err != nil {
		return tufKey{}, fmt.Errorf("key %s: %w", name, err)
	}
	data, err := encodePublic(key.Public())
	if err == nil && !exists(f.publicFile(name)) {
		err = writeNew(f.publicFile(name), data)
	}
	if err != nil {
		return tufKey{}, err
	}
	f.loaded[name] = key
	k := tufKey{name: name, public: key.Public()}
	k.role, k.number, _ = tufName(name)
	if k.meta, err = metadata.KeyFromPublicKey(k.public); err == nil {
		k.id, err = k.meta.ID()
	}
	return k, err
}

// makePair makes an RSA key with a certificate that it signs itself.
func (f *Folder) makePair(name, subject string) error {
	delete(f.loaded, name)
	key, err := f.makeKey(name, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, rsaBits) })
	if err != nil {
		return err
	}
	if _, ok := key.Public().(*rsa.PublicKey); !ok {
		return fmt.Errorf("key %s: is %T, firmware wants RSA", name, key.Public())
	}
	cert, err := certify(key, subject)
	if err != nil {
		return fmt.Errorf("key %s: %w", name, err)
	}
	return writeNew(f.certFile(name), encodeCert(cert))
}

// makeKey asks a signer for its public key, reads the file that is there, or
// generates a key and writes it.
func (f *Folder) makeKey(name string, generate func() (crypto.Signer, error)) (crypto.Signer, error) {
	if f.conf.Signers[name] != nil {
		e := f.external(name, nil)
		var err error
		e.public, err = e.fetchPublic()
		return e, err
	}
	key, err := f.readKey(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = generate(); err != nil {
		return nil, err
	}
	pass, err := f.pass(name, true)
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(key, pass)
	if err != nil {
		return nil, fmt.Errorf("key %s: %v", name, err)
	}
	return key, writeNew(f.keyFile(name), data)
}

func certify(key crypto.Signer, subject string) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		SignatureAlgorithm:    x509.SHA256WithRSA,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}
