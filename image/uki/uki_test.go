package uki_test

import (
	"bytes"
	"crypto"
	"debug/pe"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/uki"
)

var signingTime = time.Unix(1_760_000_000, 0)

func sections() []uki.Section {
	return []uki.Section{
		{Name: uki.OSRel, Data: []byte("ID=wayside\n")},
		{Name: uki.Cmdline, Data: []byte("quiet wayside.roothash=00")},
		{Name: uki.Linux, Data: bytes.Repeat([]byte("kernel"), 1000)},
		{Name: uki.Initrd, Data: bytes.Repeat([]byte{7}, 4096)},
	}
}

func build(t testing.TB) []byte {
	t.Helper()
	img, err := uki.Build(imagetest.PE("stub"), sections())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func sign(t testing.TB, img []byte, pair keys.Pair) []byte {
	t.Helper()
	signed, err := uki.Sign(img, pair, signingTime)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestBuildReadsBack(t *testing.T) {
	got, err := uki.Sections(build(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sections(), got[1:]); diff != "" { // the first is the stub's own
		t.Errorf("sections (-want +got):\n%s", diff)
	}
}

// A second reader of the format must see what firmware loads.
func TestBuildAsOthersReadIt(t *testing.T) {
	f, err := pe.NewFile(bytes.NewReader(build(t)))
	if err != nil {
		t.Fatal(err)
	}
	end := uint32(0x2000)
	for _, want := range sections() {
		s := f.Section(want.Name)
		if s == nil || s.VirtualAddress != end || s.VirtualSize != uint32(len(want.Data)) || s.Offset%512 != 0 {
			t.Fatalf("section %s: %+v, want address %#x, size %d", want.Name, s, end, len(want.Data))
		}
		data, err := s.Data()
		if err != nil || !bytes.Equal(data[:len(want.Data)], want.Data) {
			t.Errorf("section %s has other content: %v", want.Name, err)
		}
		end = (s.VirtualAddress + s.VirtualSize + 0xfff) &^ 0xfff
	}
	if opt := f.OptionalHeader.(*pe.OptionalHeader64); opt.SizeOfImage != end {
		t.Errorf("SizeOfImage is %#x, want %#x", opt.SizeOfImage, end)
	}
}

func TestBuildRefuses(t *testing.T) {
	stub := imagetest.PE("stub")
	many := make([]uki.Section, 30)
	for i := range many {
		many[i] = uki.Section{Name: string(rune('a' + i)), Data: []byte("x")}
	}
	for name, c := range map[string]struct {
		stub     []byte
		sections []uki.Section
	}{
		"no PE file":         {[]byte("#!/bin/sh"), sections()},
		"cut headers":        {stub[:600], sections()},
		"signed stub":        {sign(t, stub, imagetest.Keys(t)), sections()},
		"too many sections":  {stub, many},
		"same section twice": {stub, append(sections(), sections()[0])},
		"name too long":      {stub, []uki.Section{{Name: ".too-long", Data: []byte("x")}}},
		"empty section":      {stub, []uki.Section{{Name: ".empty"}}},
	} {
		if _, err := uki.Build(c.stub, c.sections); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSignedFileIsAcceptedByAll(t *testing.T) {
	pair := imagetest.Keys(t)
	for name, img := range map[string][]byte{"kernel image": build(t), "boot loader": imagetest.PE("loader"), "odd size": append(imagetest.PE("x"), 1, 2, 3)} {
		signed := sign(t, img, pair)
		if err := uki.Verify(signed, pair.Cert); err != nil {
			t.Errorf("%s: Verify: %v", name, err)
		}
		bin, err := authenticode.Parse(bytes.NewReader(signed))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := bin.Verify(pair.Cert); !ok || err != nil {
			t.Errorf("%s: go-uefi: %v, %v", name, ok, err)
		}
	}
}

func TestSignedFileForeignCheck(t *testing.T) {
	dir := t.TempDir()
	pair, _, err := keys.LoadOrCreate(filepath.Join(dir, "keys"), nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "uki.efi")
	if err := os.WriteFile(file, sign(t, build(t), pair), 0o644); err != nil {
		t.Fatal(err)
	}
	out := imagetest.Run(t, "sbverify", "--cert", filepath.Join(dir, "keys", keys.CertFile), file)
	if !strings.Contains(out, "Signature verification OK") || strings.Contains(out, "warning") {
		t.Errorf("sbverify says:\n%s", out)
	}
}

// The other way round: what sbsign signs, Verify accepts.
func TestVerifyAcceptsSbsign(t *testing.T) {
	dir := t.TempDir()
	pair, _, err := keys.LoadOrCreate(filepath.Join(dir, "keys"), nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "uki.efi")
	if err := os.WriteFile(file, build(t), 0o644); err != nil {
		t.Fatal(err)
	}
	imagetest.Run(t, "sbsign", "--key", filepath.Join(dir, "keys", keys.KeyFile),
		"--cert", filepath.Join(dir, "keys", keys.CertFile), "--output", file+".signed", file)
	signed, err := os.ReadFile(file + ".signed")
	if err != nil {
		t.Fatal(err)
	}
	if err := uki.Verify(signed, pair.Cert); err != nil {
		t.Errorf("Verify of a file signed by sbsign: %v", err)
	}
}

func TestSignIsReproducible(t *testing.T) {
	pair, img := imagetest.Keys(t), build(t)
	if !bytes.Equal(sign(t, img, pair), sign(t, img, pair)) {
		t.Error("two signatures of one file with one key differ")
	}
}

func TestVerifyRefusesEveryAlteredByte(t *testing.T) {
	pair := imagetest.Keys(t)
	signed := sign(t, build(t), pair)
	bad := bytes.Clone(signed)
	for at := range signed {
		bad[at] ^= 0x10
		if err := uki.Verify(bad, pair.Cert); err == nil {
			t.Errorf("byte %d of %d altered, and nothing said", at, len(signed))
		}
		bad[at] = signed[at]
	}
	for name, img := range map[string][]byte{"a byte more": append(bytes.Clone(signed), 0), "a byte less": signed[:len(signed)-1]} {
		if err := uki.Verify(img, pair.Cert); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerifyRefusesOthers(t *testing.T) {
	pair, other := imagetest.Keys(t), imagetest.Keys(t)
	if err := uki.Verify(build(t), pair.Cert); !errors.Is(err, uki.ErrUnsigned) {
		t.Errorf("unsigned: got %v, want ErrUnsigned", err)
	}
	signed := sign(t, build(t), other)
	if err := uki.Verify(signed, pair.Cert); err == nil {
		t.Error("signed by another key: accepted")
	}
	if err := uki.Verify(signed); err == nil {
		t.Error("no certificate to check against: accepted")
	}
	if err := uki.Verify(signed, pair.Cert, other.Cert); err != nil {
		t.Errorf("signed by the second of two: %v", err)
	}
}

// An attacker may write the altered file's own hash into the signed content:
// only the message digest among the signed attributes tells. go-uefi's Verify
// does not look at it.
func TestVerifyRefusesExchangedContent(t *testing.T) {
	pair := imagetest.Keys(t)
	signed := sign(t, build(t), pair)
	before := digest(t, signed)
	bad := bytes.Replace(signed, []byte("quiet "), []byte("evil! "), 1)
	bad = bytes.Replace(bad, before, digest(t, bad), 1)
	fixChecksum(bad)
	err := uki.Verify(bad, pair.Cert)
	if err == nil || !strings.Contains(err.Error(), "attributes") {
		t.Errorf("got %v, want a refusal because of the signed attributes", err)
	}
}

func digest(t *testing.T, img []byte) []byte {
	t.Helper()
	bin, err := authenticode.Parse(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	return bin.Hash(crypto.SHA256)
}

// fixChecksum is the PE checksum, written once more.
func fixChecksum(img []byte) {
	le := binary.LittleEndian
	at := int(le.Uint32(img[0x3c:])) + 24 + 64
	le.PutUint32(img[at:], 0)
	var sum uint32
	for i := 0; i < len(img); i += 2 {
		sum += uint32(le.Uint16(img[i:]))
		sum = sum>>16 + sum&0xffff
	}
	le.PutUint32(img[at:], sum+uint32(len(img)))
}

func FuzzSections(f *testing.F) {
	f.Add(imagetest.PE("stub"))
	f.Add(build(f))
	f.Add(sign(f, build(f), imagetest.Keys(f)))
	cert := imagetest.Keys(f).Cert
	f.Fuzz(func(t *testing.T, img []byte) {
		sections, err := uki.Sections(img)
		total := 0
		for _, s := range sections {
			total += len(s.Data)
		}
		if err == nil && total > len(img) {
			t.Errorf("%d bytes of sections in a file of %d", total, len(img))
		}
		if err := uki.Verify(img, cert); err == nil {
			t.Error("accepted with a key that signed nothing")
		}
	})
}
