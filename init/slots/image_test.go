package slots

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kernelImage is a PE32+ file for x86-64 with the sections of a kernel image.
func kernelImage(osrel, cmdline string) []byte {
	const headers, opt, table = 1024, 0x40 + 24, 0x40 + 24 + 240
	le := binary.LittleEndian
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00\x64\x86\x03\x00")
	le.PutUint16(b[0x40+20:], 240)
	le.PutUint16(b[opt:], 0x20b)
	le.PutUint32(b[opt+108:], 16) // data directories
	for i, s := range [][2]string{{".osrel", osrel}, {".cmdline", cmdline}, {".linux", "kernel"}} {
		h := b[table+40*i:]
		copy(h, s[0])
		le.PutUint32(h[8:], uint32(len(s[1])))
		le.PutUint32(h[16:], 512)
		le.PutUint32(h[20:], uint32(len(b)))
		b = append(b, s[1]+strings.Repeat("\x00", 512-len(s[1]))...)
	}
	return b
}

const (
	testRelease = "ID=wayside\nVERSION_ID=\"1.2\"\nIMAGE_VERSION=\"7\"\n"
	testWords   = "wayside.roothash=aa wayside.datablocks=5 wayside.version=1.2 wayside.board=b wayside.counter=7 quiet"
)

func TestReadImage(t *testing.T) {
	got, err := ReadImage(bytes.NewReader(kernelImage(testRelease, testWords)))
	want := Image{SortKey: "wayside", Order: "7", Version: "1.2", Board: "b", Counter: 7, RootHash: "aa", DataBlocks: "5", Arch: "amd64"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for name, b := range map[string][]byte{
		"nothing":     nil,
		"text":        []byte("hello, this is no kernel image at all, but long enough to be looked at: " + testWords),
		"cut short":   kernelImage(testRelease, testWords)[:1100],
		"no sections": bytes.Replace(kernelImage(testRelease, testWords), []byte(".osrel"), []byte(".other"), 1),
	} {
		if got, err := ReadImage(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
}

func FuzzReadImage(f *testing.F) {
	f.Add(kernelImage(testRelease, testWords))
	f.Fuzz(func(_ *testing.T, b []byte) { ReadImage(bytes.NewReader(b)) })
}
