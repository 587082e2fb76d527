// Package seal keeps secrets by the machine's TPM: it gives one back only to a
// kernel image whose measurement the owner's policy key has signed, on a
// machine whose Secure Boot is set up as it was when the secret was sealed.
package seal

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// The registers of the policy. Nothing but a signed policy speaks of what is in
// the kernel image's: that changes with each update. The one of Secure Boot is
// taken as it is: without it, another system could extend the former to the
// value that it wants.
const (
	pcrSecureBoot = 7
	pcrKernel     = 11
)

// Sealed is a secret that this TPM alone can open, as LUKS2 token of the type
// TokenType.
type Sealed struct {
	Type    string `json:"type"`
	Public  []byte `json:"public"`  // TPM2B_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE
	Key     string `json:"key"`     // Policy.Fingerprint
}

// TokenType is Sealed's.
const TokenType = "wayside-tpm2"

// Token is a secret's LUKS2 token.
func (s Sealed) Token() map[string]any {
	return map[string]any{"type": TokenType, "public": s.Public, "private": s.Private, "key": s.Key}
}

// Seal seals a secret for kernel images that the policy's key signs.
func Seal(t transport.TPM, p Policy, secret []byte) (Sealed, error) {
	if p.Key == nil {
		return Sealed{}, errors.New("seal: the kernel image brings no policy key")
	}
	calc, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return Sealed{}, err
	}
	name, err := keyName(p.Key)
	if err != nil {
		return Sealed{}, err
	}
	if err := (tpm2.PolicyAuthorize{KeySign: *name}).Update(calc); err != nil {
		return Sealed{}, err
	}
	secureBoot, err := digestOf(t, pcrSecureBoot)
	if err != nil {
		return Sealed{}, err
	}
	pcr := tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: secureBoot}, Pcrs: selection(pcrSecureBoot)}
	if err := pcr.Update(calc); err != nil {
		return Sealed{}, err
	}
	root, done, err := storageRoot(t)
	if err != nil {
		return Sealed{}, err
	}
	defer done()
	created, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: root.ObjectHandle, Name: root.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16,
			tpm2.AESEncryption(128, tpm2.EncryptIn), tpm2.Salted(root.ObjectHandle, root.public))},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: calc.Hash().Digest},
		}),
	}.Execute(t)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal: %w", err)
	}
	return Sealed{
		Type: TokenType, Public: tpm2.Marshal(created.OutPublic), Private: tpm2.Marshal(created.OutPrivate), Key: p.Fingerprint(),
	}, nil
}

// Unseal gives the secret back if the policy has a signature for the kernel
// image that runs, and Secure Boot is as it was.
func (s Sealed) Unseal(t transport.TPM, p Policy) ([]byte, error) {
	if p.Key == nil || s.Key != p.Fingerprint() {
		return nil, errors.New("unseal: it was sealed for another policy key than this kernel image's")
	}
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](s.Public)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](s.Private)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	root, done, err := storageRoot(t)
	if err != nil {
		return nil, err
	}
	defer done()
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: root.ObjectHandle, Name: root.Name, Auth: tpm2.PasswordAuth(nil)},
		InPublic:     *public, InPrivate: *private,
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("unseal: this TPM, or its content, is another one: %w", err)
	}
	defer flush(t, loaded.ObjectHandle)
	session, end, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, 16,
		tpm2.AESEncryption(128, tpm2.EncryptOut), tpm2.Salted(root.ObjectHandle, root.public))
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	defer end()
	if err := p.satisfy(t, session.Handle()); err != nil {
		return nil, err
	}
	secret, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: session}}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("unseal: Secure Boot is not as it was: %w", err)
	}
	return secret.OutData.Buffer, nil
}

// Lock makes the TPM give nothing more until the next boot: the register of
// the kernel image moves on to a value that nobody signs.
func Lock(t transport.TPM) error {
	sum := sha256.Sum256([]byte("wayside: the volumes are open"))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcrKernel), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: sum[:]}}},
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("lock the TPM's policy: %w", err)
	}
	return nil
}

// root is the storage root key. It is the same at every call until the TPM is
// cleared (TCG TPM v2.0 Provisioning Guidance, template ECC P-256).
type root struct {
	*tpm2.CreatePrimaryResponse
	public tpm2.TPMTPublic
}

func storageRoot(t transport.TPM) (root, func(), error) {
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return root{}, nil, fmt.Errorf("make the TPM's storage root key: %w", err)
	}
	done := func() { flush(t, r.ObjectHandle) }
	public, err := r.OutPublic.Contents()
	if err != nil {
		done()
		return root{}, nil, err
	}
	return root{r, *public}, done, nil
}

// flush frees a slot of the TPM's memory; one that stays is gone with the next
// start.
func flush(t transport.TPM, h tpm2.TPMHandle) { _, _ = tpm2.FlushContext{FlushHandle: h}.Execute(t) }

func selection(pcr uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)},
	}}
}

// digestOf is what a PCR policy holds of one register: the hash of its value.
func digestOf(t transport.TPM, pcr uint) ([]byte, error) {
	r, err := tpm2.PCRRead{PCRSelectionIn: selection(pcr)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read PCR %d: %w", pcr, err)
	}
	if len(r.PCRValues.Digests) != 1 {
		return nil, fmt.Errorf("read PCR %d: the TPM has no SHA-256 bank", pcr)
	}
	sum := sha256.Sum256(r.PCRValues.Digests[0].Buffer)
	return sum[:], nil
}

// verifier is the policy key as the TPM knows it.
func verifier(key *rsa.PublicKey) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{UserWithAuth: true, SignEncrypt: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: tpm2.TPMKeyBits(key.N.BitLen())}),
		Unique:           tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()}),
	}
}

func keyName(key *rsa.PublicKey) (*tpm2.TPM2BName, error) {
	public := verifier(key)
	return tpm2.ObjectName(&public)
}

// satisfy takes a policy session through the owner's policy.
func (p Policy) satisfy(t transport.TPM, session tpm2.TPMHandle) error {
	now, err := digestOf(t, pcrKernel)
	if err != nil {
		return err
	}
	policy := pcrPolicy(pcrKernel, now)
	signature, ok := p.find(policy)
	if !ok {
		return errors.New("unseal: nobody has signed a policy for the kernel image that runs")
	}
	key, err := tpm2.LoadExternal{InPublic: tpm2.New2B(verifier(p.Key)), Hierarchy: tpm2.TPMRHOwner}.Execute(t)
	if err != nil {
		return fmt.Errorf("unseal: load the policy key: %w", err)
	}
	defer flush(t, key.ObjectHandle)
	sum := sha256.Sum256(policy) // a policy qualifier would follow
	verified, err := tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, Digest: tpm2.TPM2BDigest{Buffer: sum[:]},
		Signature: tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: signature}})},
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("unseal: the policy's signature does not hold: %w", err)
	}
	if _, err := (tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(pcrKernel)}).Execute(t); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	if _, err := (tpm2.PolicyAuthorize{PolicySession: session, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: policy},
		KeySign: key.Name, CheckTicket: verified.Validation}).Execute(t); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	if _, err := (tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(pcrSecureBoot)}).Execute(t); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	return nil
}

// pcrPolicy is the policy digest of one register's value, given its hash
// (TPM 2.0 Library, part 3, TPM2_PolicyPCR).
func pcrPolicy(pcr uint, digest []byte) []byte {
	var b bytes.Buffer
	b.Write(make([]byte, sha256.Size))      // where every policy starts
	b.Write([]byte{0, 0, 1, 0x7f})          // TPM_CC_PolicyPCR
	b.Write([]byte{0, 0, 0, 1, 0, 0x0b, 3}) // one selection, SHA-256, three bytes
	mask := uint32(1) << pcr
	b.Write([]byte{byte(mask), byte(mask >> 8), byte(mask >> 16)})
	b.Write(digest)
	sum := sha256.Sum256(b.Bytes())
	return sum[:]
}
