// Package updatertest makes signed release repositories for tests, with
// go-tuf as a publisher would.
package updatertest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/waysideos/wayside/image/release"
)

// Repo is a repository under construction. Its fields may be changed between
// two calls of Publish.
type Repo struct {
	Keys      map[string][]ed25519.PrivateKey // by role; a root needs as many signatures as it has keys
	Expires   map[string]time.Time            // by role
	Versions  map[string]int64                // by role; Publish raises all but root's
	Targets   map[string]*metadata.TargetFiles
	Files     map[string][]byte // by path in a source: what a web server would have
	Threshold int               // of every role

	t testing.TB
}

// Roles are all four.
var Roles = []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}

// NewRepo makes keys and root, and nothing to offer yet. now is when it is.
func NewRepo(t testing.TB, now time.Time) *Repo {
	t.Helper()
	r := &Repo{t: t, Keys: map[string][]ed25519.PrivateKey{}, Expires: map[string]time.Time{},
		Versions: map[string]int64{}, Targets: map[string]*metadata.TargetFiles{}, Files: map[string][]byte{}, Threshold: 1}
	for _, role := range Roles {
		r.Keys[role] = []ed25519.PrivateKey{NewKey(t)}
		r.Expires[role] = now.Add(30 * 24 * time.Hour)
	}
	r.PublishRoot(nil)
	return r
}

// NewKey makes a key.
func NewKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Root is the newest root as it was signed.
func (r *Repo) Root() []byte {
	return r.Files[fmt.Sprintf("%d.root.json", r.Versions[metadata.ROOT])]
}

// PublishRoot makes the next root of the keys that are there now, signed by
// them and by those of before.
func (r *Repo) PublishRoot(before []ed25519.PrivateKey) {
	r.t.Helper()
	r.Versions[metadata.ROOT]++
	m := metadata.Root(r.Expires[metadata.ROOT])
	m.Signed.Version = r.Versions[metadata.ROOT]
	m.Signed.ConsistentSnapshot = true
	for _, role := range Roles {
		for _, key := range r.Keys[role] {
			k, err := metadata.KeyFromPublicKey(key.Public())
			r.must(err)
			r.must(m.Signed.AddKey(k, role))
		}
		m.Signed.Roles[role].Threshold = r.Threshold
	}
	signers := map[string]ed25519.PrivateKey{}
	for _, key := range append(before, r.Keys[metadata.ROOT]...) {
		signers[hex.EncodeToString(key.Public().(ed25519.PublicKey))] = key
	}
	for _, key := range signers {
		r.sign(m.Sign, key)
	}
	data, err := m.ToBytes(false)
	r.must(err)
	r.Files[fmt.Sprintf("%d.root.json", m.Signed.Version)] = data
}

// Add puts a file of a release in, with the custom object when there is one.
func (r *Repo) Add(name string, data []byte, custom *release.Target) {
	r.t.Helper()
	f, err := metadata.TargetFile().FromBytes(name, data, "sha256")
	r.must(err)
	if custom != nil {
		raw, err := json.Marshal(custom)
		r.must(err)
		f.Custom = (*json.RawMessage)(&raw)
	}
	r.Targets[name] = f
	r.Files[Path(name, f.Hashes["sha256"])] = data
}

// Path is where a target lies in a source.
func Path(name string, sum []byte) string {
	return path.Join("targets", path.Dir(name), hex.EncodeToString(sum)+"."+path.Base(name))
}

// Publish signs targets, snapshot and timestamp anew.
func (r *Repo) Publish() {
	r.t.Helper()
	for _, role := range Roles[1:] {
		r.Versions[role]++
	}
	targets := metadata.Targets(r.Expires[metadata.TARGETS])
	targets.Signed.Version = r.Versions[metadata.TARGETS]
	targets.Signed.Targets = maps.Clone(r.Targets)
	data := r.Sign(metadata.TARGETS, targets.Sign, targets.ToBytes)
	r.Files[fmt.Sprintf("%d.targets.json", targets.Signed.Version)] = data

	snapshot := metadata.Snapshot(r.Expires[metadata.SNAPSHOT])
	snapshot.Signed.Version = r.Versions[metadata.SNAPSHOT]
	snapshot.Signed.Meta["targets.json"] = metaFile(targets.Signed.Version, data)
	data = r.Sign(metadata.SNAPSHOT, snapshot.Sign, snapshot.ToBytes)
	r.Files[fmt.Sprintf("%d.snapshot.json", snapshot.Signed.Version)] = data

	stamp := metadata.Timestamp(r.Expires[metadata.TIMESTAMP])
	stamp.Signed.Version = r.Versions[metadata.TIMESTAMP]
	stamp.Signed.Meta["snapshot.json"] = metaFile(snapshot.Signed.Version, data)
	r.Files["timestamp.json"] = r.Sign(metadata.TIMESTAMP, stamp.Sign, stamp.ToBytes)
}

func metaFile(version int64, data []byte) *metadata.MetaFiles {
	m := metadata.MetaFile(version)
	sum := sha256.Sum256(data)
	m.Length, m.Hashes = int64(len(data)), metadata.Hashes{"sha256": sum[:]}
	return m
}

// signFunc is the Sign method of a go-tuf metadata.
type signFunc func(signature.Signer) (*metadata.Signature, error)

// Sign signs metadata with the role's keys.
func (r *Repo) Sign(role string, sign signFunc, bytes func(bool) ([]byte, error)) []byte {
	r.t.Helper()
	for _, key := range r.Keys[role] {
		r.sign(sign, key)
	}
	data, err := bytes(false)
	r.must(err)
	return data
}

func (r *Repo) sign(sign signFunc, key ed25519.PrivateKey) {
	r.t.Helper()
	s, err := signature.LoadSigner(key, crypto.Hash(0))
	r.must(err)
	_, err = sign(s)
	r.must(err)
}

func (r *Repo) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}
