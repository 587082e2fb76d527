package keys

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"
)

// ConfigFile, in a key folder, says what is not the usual; it may be missing.
const ConfigFile = "keys.yaml"

// config is what ConfigFile holds. docs/updates.md describes it.
type config struct {
	Format int `yaml:"format"`
	// Files says where private keys lie that are not in the folder, such as
	// root keys on sticks of their own.
	Files map[string]string `yaml:"files"`
	// Signers are programs that hold a private key, with their arguments; see
	// docs/formats/signer.md.
	Signers map[string][]string `yaml:"signers"`
	// SignerTimeout is how long one call of a signer may take.
	SignerTimeout time.Duration `yaml:"signer_timeout"`
	// ExpiresDays is how long what a TUF role signs is good for.
	ExpiresDays map[string]int `yaml:"expires_days"`
}

// Of the times below, timestamp bounds how long an attacker can hide that
// there is a newer release; the owner must refresh the repository that often.
var defaultExpiry = map[string]int{RoleRoot: 5 * 365, RoleTargets: 365, RoleSnapshot: 90, RoleTimestamp: 30}

const defaultSignerTimeout = 2 * time.Minute // somebody may have to touch a token

// Passphrase gives the passphrase of a key's file; fresh for a file that is
// about to be written, where nil means that it shall not be encrypted.
type Passphrase func(key string, fresh bool) ([]byte, error)

// Folder is a key folder. Private keys are read when they sign.
type Folder struct {
	dir    string
	conf   config
	pass   Passphrase
	loaded map[string]crypto.Signer
}

// Open reads a folder's configuration. A folder that is not there is as an
// empty one; pass may be nil if no file is encrypted.
func Open(dir string, pass Passphrase) (*Folder, error) {
	f := &Folder{dir: dir, pass: pass, loaded: map[string]crypto.Signer{}}
	if pass == nil {
		f.pass = func(key string, fresh bool) ([]byte, error) {
			if fresh {
				return nil, nil
			}
			return nil, fmt.Errorf("key %s is encrypted and there is nobody to ask for its passphrase", key)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, ConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = yaml.UnmarshalWithOptions(data, &f.conf, yaml.DisallowUnknownField())
	}
	if err == nil {
		err = f.conf.check()
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", filepath.Join(dir, ConfigFile), err)
	}
	return f, nil
}

func (c config) check() error {
	if c.Format != 1 {
		return fmt.Errorf("format is %d, want 1", c.Format)
	}
	for role, days := range c.ExpiresDays {
		if _, known := defaultExpiry[role]; !known || days < 1 {
			return fmt.Errorf("expires_days: %s: %d: want root, targets, snapshot or timestamp and a number of days", role, days)
		}
	}
	for name, argv := range c.Signers {
		if len(argv) == 0 {
			return fmt.Errorf("signers: %s: names no program", name)
		}
		if _, twice := c.Files[name]; twice {
			return fmt.Errorf("key %s is both a file and a signer", name)
		}
	}
	if c.SignerTimeout < 0 {
		return fmt.Errorf("signer_timeout: %s: want a time, such as 2m", c.SignerTimeout)
	}
	return nil
}

// Dir is where the folder lies.
func (f *Folder) Dir() string { return f.dir }

// Expiry is how long what a TUF role signs is good for.
func (f *Folder) Expiry(role string) time.Duration {
	days := defaultExpiry[role]
	if d := f.conf.ExpiresDays[role]; d > 0 {
		days = d
	}
	return time.Duration(days) * 24 * time.Hour
}

// Pair returns a key with certificate: PK, KEK or db. The error matches
// fs.ErrNotExist if there is none.
func (f *Folder) Pair(name string) (Pair, error) {
	cert, err := LoadCert(f.certFile(name))
	if err != nil {
		return Pair{}, err
	}
	key, err := f.signer(name, cert.PublicKey)
	if err != nil {
		return Pair{}, err
	}
	p := Pair{Key: key, Cert: cert}
	if err := p.Check(); err != nil {
		return Pair{}, fmt.Errorf("%s: key %s: %w", f.dir, name, err)
	}
	return p, nil
}

// Certs returns the certificate of a Secure Boot key and of those it came to
// replace, the current one first: what they signed is in use for long after.
func (f *Folder) Certs(name string) ([]*x509.Certificate, error) {
	cert, err := LoadCert(f.certFile(name))
	if err != nil {
		return nil, err
	}
	certs := []*x509.Certificate{cert}
	for n := 1; ; n++ {
		old, err := LoadCert(f.certFile(numbered(name, n)))
		if errors.Is(err, fs.ErrNotExist) {
			return certs, nil
		}
		if err != nil {
			return nil, err
		}
		certs = append(certs, old)
	}
}

// signer returns the private key that belongs to a public one: an external
// program's or a file's. The error matches fs.ErrNotExist if its file is not
// there.
func (f *Folder) signer(name string, public crypto.PublicKey) (crypto.Signer, error) {
	if s := f.loaded[name]; s != nil {
		return s, nil
	}
	if argv := f.conf.Signers[name]; argv != nil {
		return f.external(name, public), nil
	}
	key, err := f.readKey(name)
	if err != nil {
		return nil, err
	}
	if !samePublic(key.Public(), public) {
		return nil, fmt.Errorf("%s: key %s: private and public key do not belong together", f.dir, name)
	}
	f.loaded[name] = key
	return key, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func (f *Folder) certFile(name string) string   { return filepath.Join(f.dir, name+".crt") }
func (f *Folder) publicFile(name string) string { return filepath.Join(f.dir, name+".pub") }

func (f *Folder) keyFile(name string) string {
	if file := f.conf.Files[name]; file != "" {
		return file
	}
	return filepath.Join(f.dir, name+".key")
}

func numbered(name string, n int) string { return fmt.Sprintf("%s-%d", name, n) }
