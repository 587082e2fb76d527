package seal

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// newTPM is a TPM fresh from the factory.
func newTPM(t *testing.T) transport.TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		tpm, err := linuxudstpm.Open(socket)
		if err == nil {
			t.Cleanup(func() { tpm.Close() })
			return tpm
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func extend(t *testing.T, tpm transport.TPM, pcr uint, what string) {
	t.Helper()
	sum := sha256.Sum256([]byte(what))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: sum[:]}}},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

// after is a register's value after extending it from zero.
func after(events ...string) []byte {
	value := make([]byte, 32)
	for _, e := range events {
		sum := sha256.Sum256([]byte(e))
		next := sha256.Sum256(append(value, sum[:]...))
		value = next[:]
	}
	return value
}

// policy signs values of register 11, as a build does.
func policy(t *testing.T, key *rsa.PrivateKey, values ...[]byte) Policy {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	pkfp := sha256.Sum256(der)
	var all []map[string]any
	for _, v := range values {
		sum := sha256.Sum256(v)
		digest := pcrPolicy(pcrKernel, sum[:])
		hash := sha256.Sum256(digest)
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, map[string]any{"pcrs": []int{11}, "pkfp": hex.EncodeToString(pkfp[:]), "pol": hex.EncodeToString(digest), "sig": sig})
	}
	text, err := json.Marshal(map[string]any{"sha256": all})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePolicy(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSealSurvivesSignedUpdates(t *testing.T) {
	tpm := newTPM(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, tpm, pcrSecureBoot, "our keys")
	extend(t, tpm, pcrKernel, "release 1")
	secret := []byte("thirty-two bytes of pure chance.")
	s, err := Seal(tpm, policy(t, key, after("release 1")), secret)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s.Token())
	if err != nil {
		t.Fatal(err)
	}
	s = Sealed{}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Unseal(tpm, policy(t, key, after("release 1"))); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("the kernel image that sealed: got %q, %v", got, err)
	}
	// The register of a TPM that starts anew cannot be had here; going on from
	// release 1 stands for another image.
	extend(t, tpm, pcrKernel, "release 2")
	second := after("release 1", "release 2")
	if got, err := s.Unseal(tpm, policy(t, key, after("other"), second)); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("a signed update: got %q, %v", got, err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, p Policy, want string) {
		t.Helper()
		if got, err := s.Unseal(tpm, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v; want an error with %q", what, got, err, want)
		}
	}
	refused("an image nobody signed", policy(t, key, after("release 1")), "nobody has signed")
	refused("another policy key", policy(t, stranger, second), "another policy key")
	forged := policy(t, stranger, second)
	forged.signed[0].Fingerprint = policy(t, key).Fingerprint()
	forged.Key = &key.PublicKey
	refused("a forged signature", forged, "does not hold")
	other := newTPM(t)
	extend(t, other, pcrSecureBoot, "our keys")
	extend(t, other, pcrKernel, "release 1")
	if got, err := s.Unseal(other, policy(t, key, after("release 1"))); err == nil {
		t.Errorf("another TPM: got %q", got)
	}
	if err := Lock(tpm); err != nil {
		t.Fatal(err)
	}
	refused("after Lock", policy(t, key, second), "nobody has signed")
	locked := after("release 1", "release 2", "wayside: the volumes are open")
	if got, err := s.Unseal(tpm, policy(t, key, locked)); err != nil {
		t.Errorf("what Lock measures is not what is said: %q, %v", got, err)
	}
	if _, err := Seal(tpm, Policy{}, secret); err == nil {
		t.Error("sealed without a policy key")
	}
	extend(t, tpm, pcrSecureBoot, "other keys")
	refused("Secure Boot changed", policy(t, key, locked), "Secure Boot is not as it was")
}

func TestParsePolicyRefuses(t *testing.T) {
	if _, err := ParsePolicy([]byte("no PEM"), []byte("{}")); err == nil {
		t.Error("a key that is none: got no error")
	}
}
