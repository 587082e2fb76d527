package uki_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/uki"
)

// What another program computed of the sections of build; test/secureboot
// compares with what a machine measures.
const (
	wantPCR11  = "8ca4f506bbfde3e410ecc7838d725a2af386afd67f74d2943c4c942f7803c8b0"
	wantPolicy = "7d745e14f624f7627b25f042b529ac7c6eb7a18a12dfb068ea05b6519b8249ce"
)

func TestPCR11(t *testing.T) {
	plain := build(t)
	got, err := uki.PCR11(plain)
	if err != nil || hex.EncodeToString(got[:]) != wantPCR11 {
		t.Errorf("got %x, %v, want %s", got, err, wantPCR11)
	}
	if policy := uki.PolicyOf(got); policy != wantPolicy {
		t.Errorf("policy: got %s, want %s", policy, wantPolicy)
	}
	signed, err := uki.PCR11(sign(t, plain, imagetest.Keys(t)))
	if err != nil || signed != got {
		t.Errorf("signed: got %x, %v, want the same: signatures are not measured", signed, err)
	}
}

func TestPCR4(t *testing.T) {
	a, b := imagetest.PE("a"), imagetest.PE("b")
	first, err := uki.PCR4(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := uki.PCR4(b, a); err != nil || first == second {
		t.Errorf("the order of programs makes no difference, %v", err)
	}
	if _, err := uki.PCR4([]byte("no program")); err == nil {
		t.Error("what is no program is measured without an error")
	}
}

func TestVouched(t *testing.T) {
	pair := imagetest.Keys(t)
	img, err := uki.BuildVouched(imagetest.PE("stub"), sections(), pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := uki.BuildVouched(imagetest.PE("stub"), sections(), pair.Key)
	if err != nil || !bytes.Equal(img, again) {
		t.Errorf("two builds differ, %v", err)
	}
	all, err := uki.Sections(img)
	if err != nil {
		t.Fatal(err)
	}
	pcr, err := uki.PCR11(img)
	if err != nil || hex.EncodeToString(pcr[:]) == wantPCR11 {
		t.Errorf("the policy key is not measured, %v", err)
	}
	var file map[string][]struct {
		PCRs []int
		Pol  string
		Sig  []byte
		PKFP string
	}
	if err := json.Unmarshal(uki.Find(all, uki.PolicySignature), &file); err != nil || len(file["sha256"]) != 1 {
		t.Fatalf("signatures: %v, %+v", err, file)
	}
	entry := file["sha256"][0]
	policy, err := hex.DecodeString(entry.Pol)
	if err != nil || entry.Pol != uki.PolicyOf(pcr) {
		t.Fatalf("got policy %s, %v, want %s", entry.Pol, err, uki.PolicyOf(pcr))
	}
	sum := sha256.Sum256(policy)
	if err := rsa.VerifyPKCS1v15(pair.Cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, sum[:], entry.Sig); err != nil {
		t.Error(err)
	}
}
