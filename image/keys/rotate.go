package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Rotated says what Rotate did.
type Rotated struct {
	Retired string `json:"retired"`
	New     string `json:"new"`
	Root    int64  `json:"root,omitempty"` // version of the new TUF root
}

// Rotate makes a new key for a role. Of a TUF role the new key takes the place
// of the named one, or of the oldest, in a new root, which is signed by as
// many keys of the old root and of the new one as their thresholds want. Of PK,
// KEK and db the old key stays beside the new one with a number: what it
// signed, or was enrolled by it, lives on.
func (f *Folder) Rotate(role, which string, now time.Time) (Rotated, error) {
	if slices.Contains(platformKeys, role) {
		return f.rotatePair(role)
	}
	if !slices.Contains(tufRoles, role) {
		return Rotated{}, fmt.Errorf("rotate %s: want one of %s", role, strings.Join(slices.Concat(tufRoles, platformKeys), ", "))
	}
	old, err := f.newestRoot()
	if err != nil {
		return Rotated{}, err
	}
	all, err := f.tufKeys()
	if err != nil {
		return Rotated{}, err
	}
	retired, next, err := replaced(all, old, role, which)
	if err != nil {
		return Rotated{}, err
	}
	name := numbered(role, next)
	given := exists(f.keyFile(name))
	r, err := f.replace(old, retired, name, now)
	if err != nil && !given && !exists(rootFile(f.dir, old.Signed.Version+1)) {
		// No root names the key, and its passphrase may be a typing error.
		delete(f.loaded, name)
		_ = errors.Join(os.Remove(f.keyFile(name)), os.Remove(f.publicFile(name)))
	}
	return r, err
}

// replace has a new key of that name do what the retired one did, in a root
// that comes after old.
func (f *Folder) replace(old *Root, retired tufKey, name string, now time.Time) (Rotated, error) {
	fresh, err := f.makeTUFKey(name)
	if err != nil {
		return Rotated{}, err
	}
	root, err := f.nextRoot(old, now)
	if err != nil {
		return Rotated{}, err
	}
	if err := root.Signed.AddKey(fresh.meta, fresh.role); err != nil {
		return Rotated{}, fmt.Errorf("rotate %s: %v", fresh.role, err)
	}
	if err := root.Signed.RevokeKey(retired.id, fresh.role); err != nil {
		return Rotated{}, fmt.Errorf("rotate %s: %v", fresh.role, err)
	}
	return Rotated{Retired: retired.name, New: fresh.name, Root: root.Signed.Version}, f.signRoot(old, root)
}

// Renew signs the next root with the same keys and a later expiry.
func (f *Folder) Renew(now time.Time) (version int64, err error) {
	old, err := f.newestRoot()
	if err != nil {
		return 0, err
	}
	root, err := f.nextRoot(old, now)
	if err != nil {
		return 0, err
	}
	return root.Signed.Version, f.signRoot(old, root)
}

func (f *Folder) newestRoot() (*Root, error) {
	roots, err := f.Roots()
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s holds no update keys; make them with wayside keys init", f.dir)
	}
	return roots[len(roots)-1], nil
}

// nextRoot is a copy with the next version and a new expiry.
func (f *Folder) nextRoot(old *Root, now time.Time) (*Root, error) {
	data, err := old.ToBytes(false)
	if err != nil {
		return nil, err
	}
	root, err := (&Root{}).FromBytes(data)
	if err != nil {
		return nil, err
	}
	root.Signed.Version++
	root.Signed.Expires = expires(now, f.Expiry(RoleRoot))
	return root, nil
}

// expires is a time as TUF writes it: UTC, whole seconds.
func expires(now time.Time, after time.Duration) time.Time {
	return now.Add(after).UTC().Truncate(time.Second)
}

func (f *Folder) signRoot(old, root *Root) error {
	if err := SignRole(f, RoleRoot, root, old, root); err != nil {
		return err
	}
	if err := old.VerifyDelegate(RoleRoot, root); err != nil {
		return fmt.Errorf("sign root: too few keys of the old root are at hand: %v", err)
	}
	return f.writeRoot(root)
}

// replaced finds the key that has to go and the number of the one to come.
func replaced(all []tufKey, root *Root, role, which string) (old tufKey, next int, err error) {
	next = 1
	for _, k := range all {
		if k.role != role {
			continue
		}
		next = max(next, k.number+1)
		current := slices.Contains(root.Signed.Roles[role].KeyIDs, k.id)
		if current && old.name == "" && (which == "" || which == k.name) {
			old = k
		}
	}
	if old.name == "" {
		return old, 0, fmt.Errorf("rotate %s: no such key of that role in root %d: %q", role, root.Signed.Version, which)
	}
	return old, next, nil
}

// rotatePair keeps the old pair under the first number that is free.
func (f *Folder) rotatePair(name string) (Rotated, error) {
	if _, err := LoadCert(f.certFile(name)); err != nil {
		return Rotated{}, fmt.Errorf("rotate %s: %w", name, err)
	}
	n := 1
	for exists(f.certFile(numbered(name, n))) || exists(f.keyFile(numbered(name, n))) {
		n++
	}
	old := numbered(name, n)
	_, outside := f.conf.Signers[name]
	if outside = outside || f.conf.Files[name] != ""; outside {
		return Rotated{}, fmt.Errorf("rotate %s: its key is not in the folder; in %s give the old key the name %s and name the new one, rename %s.crt to %s.crt, then run keys init",
			name, ConfigFile, old, name, old)
	}
	for _, file := range []func(string) string{f.keyFile, f.certFile} {
		if err := os.Rename(file(name), file(old)); err != nil {
			return Rotated{}, fmt.Errorf("rotate %s: %w", name, err)
		}
	}
	if err := f.makePair(name, f.subject(old, name)); err != nil {
		return Rotated{}, fmt.Errorf("rotate %s: %w; the old pair is now %s", name, err, old)
	}
	return Rotated{Retired: old, New: name}, nil
}

func (f *Folder) subject(of, fallback string) string {
	cert, err := LoadCert(f.certFile(of))
	if err != nil {
		return fallback
	}
	return cert.Subject.CommonName
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// KeptEncrypted says of a private key that it lies in an encrypted file.
const KeptEncrypted = "encrypted file"

// Info is what can be told of a key without its private half.
type Info struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// Fingerprint is SHA-256, hex: of the certificate, or the TUF key id.
	Fingerprint string `json:"fingerprint"`
	Algorithm   string `json:"algorithm"`
	// Kept says where the private key is: KeptEncrypted, "file", "signer" or
	// "not here".
	Kept    string     `json:"kept"`
	Current bool       `json:"current"`
	Expires *time.Time `json:"expires,omitempty"` // of a certificate
}

// Listing is a whole key folder.
type Listing struct {
	Keys []Info `json:"keys"`
	// Root is the newest TUF root; zero if there is none.
	Root       int64          `json:"root_version,omitempty"`
	Expires    *time.Time     `json:"root_expires,omitempty"`
	Thresholds map[string]int `json:"thresholds,omitempty"`
}

// List tells what keys there are.
func (f *Folder) List() (Listing, error) {
	var l Listing
	for _, name := range platformKeys {
		certs, err := f.Certs(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return l, err
		}
		for i, cert := range certs {
			info := Info{Name: name, Role: name, Current: i == 0, Expires: &cert.NotAfter}
			if i > 0 {
				info.Name = numbered(name, i)
			}
			info.Fingerprint = Pair{Cert: cert}.Fingerprint()
			info.Algorithm, info.Kept = algorithm(cert.PublicKey), f.kept(info.Name)
			l.Keys = append(l.Keys, info)
		}
	}
	roots, err := f.Roots()
	if err != nil || len(roots) == 0 {
		return l, err
	}
	root := roots[len(roots)-1]
	l.Root, l.Expires, l.Thresholds = root.Signed.Version, &root.Signed.Expires, map[string]int{}
	for role, r := range root.Signed.Roles {
		l.Thresholds[role] = r.Threshold
	}
	return l, f.listTUF(&l, root)
}

func (f *Folder) listTUF(l *Listing, root *Root) error {
	all, err := f.tufKeys()
	for _, k := range all {
		l.Keys = append(l.Keys, Info{
			Name: k.name, Role: k.role, Fingerprint: k.id, Algorithm: algorithm(k.public), Kept: f.kept(k.name),
			Current: slices.Contains(root.Signed.Roles[k.role].KeyIDs, k.id),
		})
	}
	return err
}

func (f *Folder) kept(name string) string {
	switch {
	case f.conf.Signers[name] != nil:
		return "signer"
	case !exists(f.keyFile(name)):
		return "not here"
	case f.isEncrypted(name):
		return KeptEncrypted
	}
	return "file"
}

func algorithm(public any) string {
	k, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return fmt.Sprintf("%T", public)
	}
	return map[string]string{"rsa": "RSA", "ecdsa": "ECDSA P-256", "ed25519": "Ed25519"}[k.Type]
}
