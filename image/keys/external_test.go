package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/keys"
)

// TestMain plays the signer program: SIGNER_MODE says how well.
func TestMain(m *testing.M) {
	if mode := os.Getenv("SIGNER_MODE"); mode != "" && len(os.Args) == 2 {
		os.Exit(play(mode, os.Args[1]))
	}
	os.Exit(m.Run())
}

// play answers one request by docs/formats/signer.md with the PKCS #8 key in
// a file.
func play(mode, file string) int {
	var req struct {
		Format         int
		Operation, Key string
		Scheme         string
		Data           []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&req); err != nil || req.Format != 1 {
		return 3
	}
	if req.Operation == "sign" {
		switch mode {
		case "garbage":
			fmt.Println("enter PIN:")
			return 0
		case "endless":
			_, err := io.Copy(os.Stdout, strings.NewReader(strings.Repeat("x", 1<<20)))
			fmt.Fprintln(os.Stderr, err)
			return 0
		case "silent":
			time.Sleep(time.Hour)
		case "fail":
			return 7
		case "refuse":
			fmt.Println(`{"error": "the token is locked"}`)
			return 1
		case "empty":
			fmt.Println(`{}`)
			return 0
		case "flip":
			req.Data[0] ^= 1
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 4
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return 5
	}
	reply := map[string]any{}
	switch signer := key.(crypto.Signer); req.Operation {
	case "public":
		der, _ := x509.MarshalPKIXPublicKey(signer.Public())
		reply["public_key"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	case "sign":
		var opts crypto.SignerOpts = crypto.SHA256
		switch req.Scheme {
		case "ed25519":
			opts = crypto.Hash(0)
		case "rsa-pss-sha256":
			opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
		}
		if reply["signature"], err = signer.Sign(rand.Reader, req.Data, opts); err != nil {
			return 6
		}
	}
	if json.NewEncoder(os.Stdout).Encode(reply) != nil {
		return 8
	}
	return 0
}

// signerFolder is a key folder of which some keys are the program's.
func signerFolder(t *testing.T, extra string, held map[string]crypto.Signer) string {
	t.Helper()
	dir, tokens := t.TempDir(), t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conf := "format: 1\n" + extra + "signers:\n"
	for name, key := range held {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(tokens, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		conf += fmt.Sprintf("  %s: [%q, %q]\n", name, program, file)
	}
	if err := os.WriteFile(filepath.Join(dir, keys.ConfigFile), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newKeys(t *testing.T) (ed ed25519.PrivateKey, ec *ecdsa.PrivateKey, rs *rsa.PrivateKey) {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err == nil {
		rs, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ed, ec, rs
}

func TestSignerProgram(t *testing.T) {
	t.Setenv("SIGNER_MODE", "good")
	ed, ec, rs := newKeys(t)
	dir := signerFolder(t, "", map[string]crypto.Signer{"root-1": rs, "root-2": ec, "targets-1": ed, "db": rs})
	f := initKeys(t, dir, keys.Options{RootKeys: 2, RootThreshold: 2}, nil)
	for _, name := range []string{"root-1", "root-2", "targets-1", "db"} {
		if _, err := os.Stat(filepath.Join(dir, name+".key")); err == nil {
			t.Errorf("a file was made for %s, which a program holds", name)
		}
	}
	p, err := f.Pair("db")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Cert.CheckSignature(p.Cert.SignatureAlgorithm, p.Cert.RawTBSCertificate, p.Cert.Signature); err != nil {
		t.Errorf("certificate of a program's key: %v", err)
	}
	if r, err := f.Rotate("root", "root-1", now); err != nil || r.New != "root-3" {
		t.Errorf("rotate root: got %+v, %v", r, err)
	}
	if _, err := f.Rotate("db", "", now); err == nil || !strings.Contains(err.Error(), "keys init") {
		t.Errorf("rotate a program's db key: got %v, want an error that says how", err)
	}
}

func TestSignerProgramThatFails(t *testing.T) {
	ed, _, _ := newKeys(t)
	for mode, want := range map[string]string{
		"garbage": "no JSON object",
		"endless": "",
		"silent":  "no answer within",
		"fail":    "exit status 7",
		"refuse":  "the token is locked",
		"empty":   "not the key's",
		"flip":    "not the key's",
	} {
		t.Run(mode, func(t *testing.T) {
			extra := ""
			if mode == "silent" {
				extra = "signer_timeout: 300ms\n"
			}
			dir := signerFolder(t, extra, map[string]crypto.Signer{"root-1": ed})
			t.Setenv("SIGNER_MODE", mode)
			_, err := keys.Init(dir, keys.Options{}, nil, now)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "root-1") {
				t.Errorf("got %v, want an error of root-1 with %q", err, want)
			}
			if root, err := keys.UpdateRoot(dir); root != nil || err != nil {
				t.Errorf("a root was written all the same: %s, %v", root, err)
			}
		})
	}
}

func TestSignerProgramOfTheWrongKind(t *testing.T) {
	t.Setenv("SIGNER_MODE", "good")
	ed, _, _ := newKeys(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"db": ed, "targets-1": p384} {
		if _, err := keys.Init(signerFolder(t, "", map[string]crypto.Signer{name: key}), keys.Options{}, nil, now); err == nil {
			t.Errorf("%s: a %T was taken", name, key)
		}
	}
}
