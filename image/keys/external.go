package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Schemes by which a key signs, as signer programs are told.
const (
	schemeEd25519  = "ed25519"             // RFC 8032, over the data itself
	schemeECDSA    = "ecdsa-p256-sha256"   // ASN.1, over its SHA-256
	schemePSS      = "rsa-pss-sha256"      // salt of 32 bytes, over its SHA-256
	schemePKCS1v15 = "rsa-pkcs1v15-sha256" // over its SHA-256
	maxSignerReply = 64 << 10              // bytes
	signerFormat   = 1
)

// signerRequest and signerReply are the contract with a signer program,
// docs/formats/signer.md: one JSON object on its standard input, one on its
// standard output.
type signerRequest struct {
	Format    int    `json:"format"`
	Operation string `json:"operation"` // "public" or "sign"
	Key       string `json:"key"`
	Scheme    string `json:"scheme,omitempty"`
	Data      []byte `json:"data,omitempty"` // what to sign; for all but ed25519 a SHA-256
}

type signerReply struct {
	PublicKey string `json:"public_key"` // PEM
	Signature []byte `json:"signature"`
	Error     string `json:"error"`
}

// external is a private key that a program holds.
type external struct {
	name    string
	argv    []string
	timeout time.Duration
	public  crypto.PublicKey
}

func (f *Folder) external(name string, public crypto.PublicKey) *external {
	e := &external{name: name, argv: f.conf.Signers[name], timeout: f.conf.SignerTimeout, public: public}
	if e.timeout == 0 {
		e.timeout = defaultSignerTimeout
	}
	return e
}

// Public implements crypto.Signer.
func (e *external) Public() crypto.PublicKey { return e.public }

// Sign implements crypto.Signer and believes no signature that it has not
// checked. The random source is the program's own.
func (e *external) Sign(_ io.Reader, data []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := schemeOf(e.public, opts)
	if err != nil {
		return nil, fmt.Errorf("signer of key %s: %v", e.name, err)
	}
	reply, err := e.call(signerRequest{Format: signerFormat, Operation: "sign", Key: e.name, Scheme: scheme, Data: data})
	if err != nil {
		return nil, err
	}
	if !verifies(e.public, scheme, data, reply.Signature) {
		return nil, fmt.Errorf("signer of key %s: %s answered with a signature that is not the key's", e.name, e.argv[0])
	}
	return reply.Signature, nil
}

// fetchPublic asks the program for its public key.
func (e *external) fetchPublic() (crypto.PublicKey, error) {
	reply, err := e.call(signerRequest{Format: signerFormat, Operation: "public", Key: e.name})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(reply.PublicKey))
	if block == nil || block.Type != pemPublic {
		return nil, fmt.Errorf("signer of key %s: %s answered without a PEM block %q in public_key", e.name, e.argv[0], pemPublic)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signer of key %s: public key: %v", e.name, err)
	}
	return key, nil
}

// call runs the program once. What it says on standard error is the user's to
// read: it may ask for a PIN there.
func (e *external) call(req signerRequest) (signerReply, error) {
	fail := func(format string, args ...any) (signerReply, error) {
		return signerReply{}, fmt.Errorf("signer of key %s: %s %s", e.name, e.argv[0], fmt.Sprintf(format, args...))
	}
	in, err := json.Marshal(req)
	if err != nil {
		return signerReply{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.argv[0], e.argv[1:]...)
	cmd.WaitDelay = time.Second // its children may hold the pipe open
	out := &limited{left: maxSignerReply}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(in, '\n')), out, os.Stderr
	err = cmd.Run()
	var reply signerReply
	decodeErr := json.Unmarshal(out.buf.Bytes(), &reply)
	switch {
	case ctx.Err() != nil:
		return fail("gave no answer within %s; keys.yaml: signer_timeout", e.timeout)
	case decodeErr == nil && reply.Error != "":
		return fail("refuses: %s", reply.Error)
	case err != nil:
		return fail("failed: %v", err)
	case decodeErr != nil:
		return fail("answered with something that is no JSON object: %v", decodeErr)
	}
	return reply, nil
}

// limited keeps what is written to it, up to a size.
type limited struct {
	buf  bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errors.New("the answer is too long")
	}
	l.left -= len(p)
	return l.buf.Write(p)
}

// schemeOf names how a key signs with such options.
func schemeOf(public crypto.PublicKey, opts crypto.SignerOpts) (string, error) {
	_, pss := opts.(*rsa.PSSOptions)
	switch public.(type) {
	case ed25519.PublicKey:
		if opts.HashFunc() == 0 {
			return schemeEd25519, nil
		}
	case *ecdsa.PublicKey:
		if opts.HashFunc() == crypto.SHA256 {
			return schemeECDSA, nil
		}
	case *rsa.PublicKey:
		if opts.HashFunc() == crypto.SHA256 && pss {
			return schemePSS, nil
		} else if opts.HashFunc() == crypto.SHA256 {
			return schemePKCS1v15, nil
		}
	}
	return "", fmt.Errorf("%T with hash %s: no scheme for that", public, opts.HashFunc())
}

// verifies checks a signature; data is as in signerRequest.
func verifies(public crypto.PublicKey, scheme string, data, signature []byte) bool {
	switch scheme {
	case schemeEd25519:
		key, ok := public.(ed25519.PublicKey)
		return ok && ed25519.Verify(key, data, signature)
	case schemeECDSA:
		key, ok := public.(*ecdsa.PublicKey)
		return ok && ecdsa.VerifyASN1(key, data, signature)
	case schemePSS:
		key, ok := public.(*rsa.PublicKey)
		return ok && rsa.VerifyPSS(key, crypto.SHA256, data, signature, pssOptions) == nil
	case schemePKCS1v15:
		key, ok := public.(*rsa.PublicKey)
		return ok && rsa.VerifyPKCS1v15(key, crypto.SHA256, data, signature) == nil
	}
	return false
}
