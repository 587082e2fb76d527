package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/release"
)

// URIs of what we claim; docs/formats/provenance.md says what they mean.
const (
	buildType     = "https://github.com/waysideos/wayside/blob/main/docs/formats/provenance.md#v1"
	builderID     = "https://github.com/waysideos/wayside/cmd/wayside"
	predicateType = "https://slsa.dev/provenance/v1"
	payloadType   = "application/vnd.in-toto+json"
)

// Subject is something that a build made, with the hash it is known by.
type Subject struct {
	Name string
	Hash string // "sha256", or "dmVerity" for the root hash of a slot
	Hex  string
}

// Source is where our own code came from.
type Source struct {
	URI    string // of a repository, such as https://github.com/waysideos/wayside
	Commit string // hex; empty if the builder was not told
}

// Statement is an in-toto statement of SLSA provenance: subjects, made for a
// release from materials. It holds no time but the epoch, so equal builds make
// equal statements.
func Statement(r release.Release, src Source, subjects []Subject, materials []Component) ([]byte, error) {
	parameters, err := structpb.NewStruct(map[string]any{
		"board": r.Board, "version": r.Version, "counter": strconv.FormatUint(r.Counter, 10),
		"epoch": strconv.FormatInt(r.Epoch, 10), "arch": r.Arch, "kernel": r.Kernel,
	})
	if err != nil {
		return nil, fmt.Errorf("write provenance: %v", err)
	}
	p := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType: buildType, ExternalParameters: parameters, ResolvedDependencies: resolved(src, materials),
		},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: builderID}},
	}
	s := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: predicateType}
	for _, sub := range subjects {
		s.Subject = append(s.Subject, &intoto.ResourceDescriptor{Name: sub.Name, Digest: map[string]string{sub.Hash: sub.Hex}})
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("write provenance: %v", err)
	}
	predicate, err := protojson.Marshal(p)
	if err == nil {
		s.Predicate = &structpb.Struct{}
		err = protojson.Unmarshal(predicate, s.Predicate)
	}
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("write provenance: %v", err)
	}
	return stableJSON(s)
}

// resolved lists what went in: our source, packages, modules.
func resolved(src Source, materials []Component) []*intoto.ResourceDescriptor {
	var deps []*intoto.ResourceDescriptor
	if src.Commit != "" {
		deps = append(deps, &intoto.ResourceDescriptor{Uri: "git+" + src.URI, Digest: map[string]string{"gitCommit": src.Commit}})
	}
	for _, c := range materials {
		d := &intoto.ResourceDescriptor{Name: c.Name, Uri: c.PURL}
		if c.Hash != "" {
			d.Digest = map[string]string{c.Hash: c.SHA256}
		}
		deps = append(deps, d)
	}
	return deps
}

// stableJSON is protojson with its keys sorted: the library varies blanks and
// promises no order.
func stableJSON(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(loose))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// Sign puts a statement into a DSSE envelope. The signature is RSA PKCS #1
// v1.5 with SHA-256, which is a pure function of key and content, so that an
// image with an envelope in it can be built again byte for byte.
func Sign(ctx context.Context, statement []byte, pair keys.Pair) ([]byte, error) {
	if err := pair.Check(); err != nil {
		return nil, err
	}
	signer, err := dsse.NewEnvelopeSigner(signer{pair})
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %v", err)
	}
	envelope, err := signer.SignPayload(ctx, payloadType, statement)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	data, err := json.Marshal(envelope)
	return append(data, '\n'), err
}

// signer is a key as dsse wants it; the key id is the certificate's SHA-256.
type signer struct{ keys.Pair }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return s.Key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

func (s signer) KeyID() (string, error) { return s.Fingerprint(), nil }

type verifier struct{ cert *x509.Certificate }

func (v verifier) Verify(_ context.Context, data, sig []byte) error {
	key, ok := v.cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("certificate is of a %T", v.cert.PublicKey)
	}
	sum := sha256.Sum256(data)
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig)
}

func (v verifier) KeyID() (string, error)   { return keys.Pair{Cert: v.cert}.Fingerprint(), nil }
func (v verifier) Public() crypto.PublicKey { return v.cert.PublicKey }

// Payload returns the statement of an envelope, unchecked.
func Payload(envelope []byte) ([]byte, error) {
	e, err := open(envelope)
	if err != nil {
		return nil, err
	}
	return e.DecodeB64Payload()
}

func open(envelope []byte) (*dsse.Envelope, error) {
	e := &dsse.Envelope{}
	if err := json.Unmarshal(envelope, e); err != nil {
		return nil, fmt.Errorf("read provenance: %v", err)
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("read provenance: payload is %q, want %q", e.PayloadType, payloadType)
	}
	return e, nil
}

// Verify returns the statement of an envelope that one of the certificates
// has signed.
func Verify(envelope []byte, certs ...*x509.Certificate) ([]byte, error) {
	if _, err := SignedBy(envelope, certs...); err != nil {
		return nil, err
	}
	return Payload(envelope)
}

// SignedBy returns the certificate that has signed an envelope, of those
// given.
func SignedBy(envelope []byte, certs ...*x509.Certificate) (*x509.Certificate, error) {
	e, err := open(envelope)
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		v, err := dsse.NewEnvelopeVerifier(verifier{c})
		if err != nil {
			return nil, fmt.Errorf("verify provenance: %v", err)
		}
		if _, err := v.Verify(context.Background(), e); err == nil {
			return c, nil
		}
	}
	return nil, errors.New("verify provenance: none of the given certificates has signed it")
}

// Subjects are what a statement speaks of.
func Subjects(statement []byte) ([]Subject, error) {
	var s struct {
		Subject []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(statement, &s); err != nil {
		return nil, fmt.Errorf("read provenance: %v", err)
	}
	var all []Subject
	for _, sub := range s.Subject {
		for hash, hex := range sub.Digest {
			all = append(all, Subject{Name: sub.Name, Hash: hash, Hex: hex})
		}
	}
	return all, nil
}
