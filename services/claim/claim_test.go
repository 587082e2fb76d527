package claim

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/site"
)

// secretWord is in every secret of these tests and may be in no message.
const secretWord = "hunter2"

var (
	issued = time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	ours   = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	theirs = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
)

func good() *Claim {
	return &Claim{
		Name: "shop-042", Issued: issued, Expires: issued.Add(24 * time.Hour), Serial: "C0FFEE", MAC: "52:54:00:12:34:56",
		Variables: map[string]string{"till": "7"}, Secrets: map[string][]byte{"link.password": []byte(secretWord)},
	}
}

// rootOf names keys as those of the role, by "0", "1" and so on.
func rootOf(t testing.TB, threshold int, public ...crypto.PublicKey) []byte {
	t.Helper()
	type key struct {
		Type  string            `json:"keytype"`
		Value map[string]string `json:"keyval"`
	}
	keys, ids := map[string]key{}, []string{}
	for i, p := range public {
		id := fmt.Sprint(i)
		ids = append(ids, id)
		if raw, ok := p.(ed25519.PublicKey); ok {
			keys[id] = key{"ed25519", map[string]string{"public": hex.EncodeToString(raw)}}
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = key{"rsa", map[string]string{"public": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}}
	}
	text, err := json.Marshal(map[string]any{"signed": map[string]any{
		"keys": keys, "roles": map[string]any{Role: map[string]any{"keyids": ids, "threshold": threshold}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func seal(t testing.TB, payload []byte, signatures ...Signature) []byte {
	t.Helper()
	file, err := Seal(payload, signatures)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func sign(key ed25519.PrivateKey, id string, payload []byte) Signature {
	return Signature{id, ed25519.Sign(key, Message(payload))}
}

func encode(t testing.TB, c *Claim) []byte {
	t.Helper()
	payload, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestClaim(t *testing.T) {
	want := good()
	payload := encode(t, want)
	c, err := Open(seal(t, payload, sign(ours, "0", payload)), rootOf(t, 1, ours.Public()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(site.Own{Site: "shop-042", Variables: want.Variables}, c.Own()); diff != "" {
		t.Errorf("for the profile (-want +got):\n%s", diff)
	}
}

// A message is DSSE's: the example of its specification, with our type.
func TestMessage(t *testing.T) {
	if got, want := string(Message([]byte("hello world"))), "DSSEv1 34 application/vnd.wayside.claim+json 11 hello world"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// All kinds of keys that may be in an update root sign claims.
func TestKinds(t *testing.T) {
	payload := encode(t, good())
	sum := sha256.Sum256(Message(payload))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecSig, err := ec.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	rsSig, err := rs.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	file := seal(t, payload, Signature{"1", ecSig}, Signature{"2", rsSig})
	root := func(threshold int) []byte { return rootOf(t, threshold, ours.Public(), ec.Public(), rs.Public()) }
	if _, err := Open(file, root(2)); err != nil {
		t.Errorf("two of two: %v", err)
	}
	if _, err := Open(file, root(3)); err == nil || !strings.Contains(err.Error(), "2 of 3 keys") {
		t.Errorf("two of three: got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	payload, root := encode(t, good()), rootOf(t, 1, ours.Public())
	whole := seal(t, payload, sign(ours, "0", payload))
	raw := func(text string) []byte { return seal(t, []byte(text), sign(ours, "0", []byte(text))) }
	with := func(change func(*Claim)) []byte {
		c := good()
		c.Version = version
		change(c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return raw(string(text))
	}
	twice := append(sliceOf(sign(ours, "0", payload)), sign(ours, "0", payload))
	forged := append([]byte(nil), payload...)
	forged = bytes.Replace(forged, []byte("shop-042"), []byte("shop-043"), 1)
	for name, c := range map[string]struct {
		file, root []byte
		want       string
	}{
		"another key":          {seal(t, payload, sign(theirs, "0", payload)), root, "not signed by the owner"},
		"a key nobody named":   {seal(t, payload, sign(ours, "9", payload)), root, "not signed by the owner"},
		"altered":              {seal(t, forged, sign(ours, "0", payload)), root, "not signed by the owner"},
		"the bare payload":     {seal(t, payload, Signature{"0", ed25519.Sign(ours, payload)}), root, "not signed by the owner"},
		"one key twice":        {seal(t, payload, twice...), rootOf(t, 2, ours.Public(), theirs.Public()), "1 of 2 keys"},
		"no signature":         {seal(t, payload), root, "is not signed"},
		"no update root":       {whole, nil, "takes no claims"},
		"a broken update root": {whole, []byte("{}"), "update root of this image is not readable"},
		"empty":                {nil, root, "is empty"},
		"zeros":                {make([]byte, 700), root, "is empty"},
		"half":                 {whole[:len(whole)/2], root, "damaged"},
		"no claim":             {[]byte("site: shop\n"), root, "is no claim"},
		"too large":            {append(whole, make([]byte, MaxSize)...), root, "more than 1048576 bytes"},
		"of another type":      {bytes.Replace(whole, []byte("wayside.claim"), []byte("wayside.other"), 1), root, "want \"application/vnd"},
		"newer version":        {raw(`{"version":2,"colour":"red"}`), root, "version 2, this release knows 1"},
		"unknown field":        {raw(`{"version":1,"name":"` + secretWord + `","colour":"red"}`), root, "fields that this release does not know"},
		"two payloads":         {raw(string(payload) + "{}"), root, "something follows"},
		"name":                 {with(func(c *Claim) { c.Name = "Shop 42" }), root, "name: "},
		"no name":              {with(func(c *Claim) { c.Name = "" }), root, "name: is empty"},
		"times":                {with(func(c *Claim) { c.Expires = c.Issued }), root, "before it was issued"},
		"no times":             {with(func(c *Claim) { c.Issued = time.Time{} }), root, "lacks the time"},
		"mac":                  {with(func(c *Claim) { c.MAC = "52-54-00-12-34-56" }), root, "mac: "},
		"path":                 {with(func(c *Claim) { c.Secrets["../x"] = []byte(secretWord) }), root, `secret "../x"`},
		"empty secret":         {with(func(c *Claim) { c.Secrets["x"] = nil }), root, "secret x: has 0 bytes"},
		"variable":             {with(func(c *Claim) { c.Variables["a"] = "{site}" }), root, "variable a: "},
	} {
		got, err := Open(c.file, c.root)
		if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: got %v, %v, want %q", name, got != nil, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), secretWord) || len(err.Error()) > 300) {
			t.Errorf("%s: the message holds a secret, or is none for a line: %v", name, err)
		}
	}
}

func sliceOf(s ...Signature) []Signature { return s }

func TestFor(t *testing.T) {
	day := 24 * time.Hour
	this := Hardware{Serial: "C0FFEE", MACs: []string{"52:54:00:00:00:01", "52:54:00:12:34:56"}}
	for name, c := range map[string]struct {
		change func(*Claim)
		h      Hardware
		now    time.Time
		want   string // part of the refusal; "" for none
	}{
		"this box":                 {h: this, now: issued},
		"a clock at its floor":     {h: this, now: issued.Add(-300 * day)},
		"expired":                  {h: this, now: issued.Add(2 * day), want: "expired 2026-11-02 08:00, and it is 2026-11-03 08:00"},
		"another serial number":    {h: Hardware{"BEEF", this.MACs}, now: issued, want: `serial number "C0FFEE"; this one has "BEEF"`},
		"a box that does not tell": {h: Hardware{"", this.MACs}, now: issued, want: `this one has ""`},
		"another address":          {h: Hardware{"C0FFEE", this.MACs[:1]}, now: issued, want: "52:54:00:12:34:56; this one has 52:54:00:00:00:01"},
		"any box":                  {change: func(c *Claim) { c.Serial, c.MAC = "", "" }, now: issued},
	} {
		claim := good()
		if c.change != nil {
			c.change(claim)
		}
		err := claim.For(c.h, c.now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// FuzzOpen holds that whatever is on a boot partition is a claim within the
// bounds, or none; what the owner has signed is not trusted to be sound.
func FuzzOpen(f *testing.F) {
	payload, root := encode(f, good()), rootOf(f, 1, ours.Public())
	f.Add(seal(f, payload, sign(ours, "0", payload)), payload, root)
	f.Add([]byte(`{"payloadType":"`+payloadType+`","payload":"e30=","signatures":[{"keyid":"0","sig":"`+base64.StdEncoding.EncodeToString([]byte("x"))+`"}]}`), []byte(`{"version":1}`), []byte(`{"signed":{"roles":{"targets":{"keyids":["0"],"threshold":1}}}}`))
	f.Add([]byte("null"), []byte(`{"version":1,"secrets":{"x":"!"}}`), []byte("null"))
	f.Fuzz(func(t *testing.T, file, payload, other []byte) {
		_, _ = Read(file)
		_, _ = Open(file, root)
		if sealed, err := Seal(payload, sliceOf(sign(ours, "0", payload))); err == nil {
			_, _ = Open(sealed, other)
			c, err := Open(sealed, root)
			if (err == nil) != (c != nil && c.Check() == nil) {
				t.Errorf("got %v and error %v", c != nil, err)
			}
		}
	})
}
