package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// The TUF roles. A key's file is named by its role and a number, such as
// targets-2; which keys count is said by the newest root alone.
const (
	RoleRoot      = metadata.ROOT
	RoleTargets   = metadata.TARGETS
	RoleSnapshot  = metadata.SNAPSHOT
	RoleTimestamp = metadata.TIMESTAMP
)

var tufRoles = []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp}

// Root is one version of the TUF root.
type Root = metadata.Metadata[metadata.RootType]

var pssOptions = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

// signTUF signs canonical JSON by the scheme that TUF has for the key.
func signTUF(key crypto.Signer, payload []byte) ([]byte, error) {
	sum := sha256.Sum256(payload)
	switch key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, payload, crypto.Hash(0))
	case *ecdsa.PublicKey:
		return key.Sign(rand.Reader, sum[:], crypto.SHA256)
	case *rsa.PublicKey:
		return key.Sign(rand.Reader, sum[:], pssOptions)
	}
	return nil, fmt.Errorf("TUF has no scheme for a key of type %T", key.Public())
}

// checkTUFKey refuses keys that no TUF client verifies.
func checkTUFKey(public crypto.PublicKey) error {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	}
	return fmt.Errorf("%T: want Ed25519, ECDSA P-256, or RSA of 2048 bits or more", public)
}

// tufKey is a key of a TUF role whose public half lies in the folder.
type tufKey struct {
	name, role string
	number     int
	id         string // as TUF has it: SHA-256 of the key's canonical form
	public     crypto.PublicKey
	meta       *metadata.Key
}

// tufKeys lists all TUF keys ever made, by role and number.
func (f *Folder) tufKeys() ([]tufKey, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read key folder: %w", err)
	}
	var all []tufKey
	for _, e := range entries {
		name, isPublic := strings.CutSuffix(e.Name(), ".pub")
		role, number, ok := tufName(name)
		if !isPublic || !ok {
			continue
		}
		public, err := loadPublic(f.publicFile(name))
		if err != nil {
			return nil, err
		}
		k := tufKey{name: name, role: role, number: number, public: public}
		if k.meta, err = metadata.KeyFromPublicKey(public); err == nil {
			k.id, err = k.meta.ID()
		}
		if err != nil {
			return nil, fmt.Errorf("public key %s: %v", f.publicFile(name), err)
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b tufKey) int {
		if d := slices.Index(tufRoles, a.role) - slices.Index(tufRoles, b.role); d != 0 {
			return d
		}
		return a.number - b.number
	})
	return all, nil
}

// tufName takes targets-2 apart.
func tufName(name string) (role string, number int, ok bool) {
	role, digits, _ := strings.Cut(name, "-")
	number, err := strconv.Atoi(digits)
	return role, number, err == nil && number > 0 && slices.Contains(tufRoles, role)
}

// Roots returns every root of the folder, the first first, each checked
// against the one before as a box does. An empty folder has none.
func (f *Folder) Roots() ([]*Root, error) {
	newest, err := rootVersion(f.dir)
	if err != nil {
		return nil, err
	}
	var roots []*Root
	for n := int64(1); n <= newest; n++ {
		data, err := ReadRoot(f.dir, n)
		if err != nil {
			return nil, fmt.Errorf("update root %d of %d: %w; a box that trusts an older one cannot get past it", n, newest, err)
		}
		root, err := (&Root{}).FromBytes(data)
		if err != nil {
			return nil, fmt.Errorf("update root %s: %v", rootFile(f.dir, n), err)
		}
		before := root
		if n > 1 {
			before = roots[n-2]
		}
		if err := checkRoot(before, root, n); err != nil {
			return nil, fmt.Errorf("update root %s: %v", rootFile(f.dir, n), err)
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// checkRoot is TUF, section 5.3: a root is signed by itself and by the one
// before, and has the next version.
func checkRoot(before, root *Root, version int64) error {
	if root.Signed.Version != version {
		return fmt.Errorf("says it is version %d", root.Signed.Version)
	}
	if err := before.VerifyDelegate(RoleRoot, root); err != nil {
		return err
	}
	return root.VerifyDelegate(RoleRoot, root)
}

// SignRole adds the signatures of a role's keys, as the given roots have
// them: the last of them wants as many as its threshold, or it is an error;
// those of older roots are added where the private key is at hand. A box that
// still trusts an older root can then follow, whichever root it fetches first.
func SignRole[T metadata.Roles](f *Folder, role string, m *metadata.Metadata[T], roots ...*Root) error {
	all, err := f.tufKeys()
	if err != nil {
		return err
	}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return fmt.Errorf("sign %s: %v", role, err)
	}
	m.ClearSignatures()
	last := roots[len(roots)-1]
	var missing []error
	for _, k := range all {
		wanted := slices.ContainsFunc(roots, func(r *Root) bool { return slices.Contains(r.Signed.Roles[role].KeyIDs, k.id) })
		if !wanted || enough(role, m, roots) {
			continue
		}
		sig, err := f.signWith(k, payload)
		current := slices.Contains(last.Signed.Roles[role].KeyIDs, k.id)
		if err != nil && current && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil {
			missing = append(missing, err)
			continue
		}
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: k.id, Signature: sig})
	}
	if err := last.VerifyDelegate(role, m); err != nil {
		return fmt.Errorf("sign %s: root %d wants %d signatures, got %d: %w", role, last.Signed.Version,
			last.Signed.Roles[role].Threshold, len(m.Signatures), errors.Join(missing...))
	}
	return nil
}

// enough tells whether every root would take m as it is, so that nobody is
// asked for more passphrases than a threshold needs.
func enough[T metadata.Roles](role string, m *metadata.Metadata[T], roots []*Root) bool {
	return !slices.ContainsFunc(roots, func(r *Root) bool { return r.VerifyDelegate(role, m) != nil })
}

func (f *Folder) signWith(k tufKey, payload []byte) ([]byte, error) {
	key, err := f.signer(k.name, k.public)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.name, err)
	}
	sig, err := signTUF(key, payload)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.name, err)
	}
	return sig, nil
}

// writeRoot gives a signed root its place.
func (f *Folder) writeRoot(root *Root) error {
	data, err := root.ToBytes(true)
	if err != nil {
		return fmt.Errorf("write update root: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(f.dir, RootsDir), 0o700); err != nil {
		return fmt.Errorf("write update root: %w", err)
	}
	if err := writeNew(rootFile(f.dir, root.Signed.Version), append(data, '\n')); err != nil {
		return fmt.Errorf("write update root: %w", err)
	}
	return nil
}
