package debian

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const somePackages = `Package: ovmf
Source: edk2
Version: 2025.02-8+deb13u1
Description: UEFI firmware
 for virtual machines
 .
 Version: not a field
Filename: pool/main/e/edk2/ovmf_2025.02-8+deb13u1_all.deb
Size: 5779964
SHA256: 78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf

# between paragraphs

Package: other
Version: 1
Filename: nonsense
Size: nonsense


package: linux-image-amd64
version: 6.12.117-1
DEPENDS: linux-image-6.12.117+deb13-amd64
  (= 6.12.117-1)
Filename: pool/updates/main/l/linux-signed-amd64/linux-image-amd64_6.12.117-1_amd64.deb
Size: 1476
SHA256: c91bd9b74771215b734ac74717b7994f654d694091336f381c9f6b5368a88b5d`

func TestReadPackages(t *testing.T) {
	want := []Entry{{
		Package: "ovmf", Version: "2025.02-8+deb13u1", Filename: "pool/main/e/edk2/ovmf_2025.02-8+deb13u1_all.deb",
		Size: 5779964, SHA256: "78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf",
	}, {
		Package: "linux-image-amd64", Version: "6.12.117-1", Depends: "linux-image-6.12.117+deb13-amd64\n(= 6.12.117-1)",
		Filename: "pool/updates/main/l/linux-signed-amd64/linux-image-amd64_6.12.117-1_amd64.deb",
		Size:     1476, SHA256: "c91bd9b74771215b734ac74717b7994f654d694091336f381c9f6b5368a88b5d",
	}}
	var got []Entry
	err := readPackages(strings.NewReader(somePackages), func(name string) bool { return name != "other" },
		func(e Entry) error { got = append(got, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
	if kernel, ok := kernelOf(got[1]); !ok || kernel != "linux-image-6.12.117+deb13-amd64" {
		t.Errorf("kernel of the meta-package: got %q, %v", kernel, ok)
	}
}

func TestReadPackagesErrors(t *testing.T) {
	good := "Package: a1\nVersion: 1\nFilename: pool/a.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\n"
	for name, tc := range map[string]struct{ in, err string }{
		"no size":            {strings.Replace(good, "Size: 1", "Size: x", 1), "has no size"},
		"size of nothing":    {strings.Replace(good, "Size: 1", "Size: 0", 1), "size 0"},
		"name is a path":     {strings.Replace(good, "Package: a1", "Package: ../a", 1), "no package name"},
		"leads out of pool":  {strings.Replace(good, "pool/a.deb", "pool/../../a.deb", 1), "no path in pool/"},
		"absolute":           {strings.Replace(good, "pool/a.deb", "/pool/a.deb", 1), "no path in pool/"},
		"another host":       {strings.Replace(good, "pool/a.deb", "http://example.org/a.deb", 1), "no path in pool/"},
		"short hash":         {strings.Replace(good, "00", "", 1), "no SHA-256"},
		"bad version":        {strings.Replace(good, "Version: 1", "Version: a b", 1), "no Debian version"},
		"field twice":        {good + "Size: 2\n", "line 6: field Size is there twice"},
		"no field":           {good + "nonsense\n", "line 6: neither"},
		"begins with a fold": {" folded\n", "line 1: a continuation"},
		"endless line":       {"Package: " + strings.Repeat("a", maxLine) + "\n", "line 1: longer"},
	} {
		t.Run(name, func(t *testing.T) {
			err := readPackages(strings.NewReader(tc.in), func(string) bool { return true }, func(Entry) error { return nil })
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func FuzzReadPackages(f *testing.F) {
	f.Add([]byte(somePackages))
	f.Add([]byte("Package: a\n b\n\n\n#\nPackage:\n:\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func() (all []Entry, err error) {
			err = readPackages(strings.NewReader(string(data)), func(string) bool { return true }, func(e Entry) error {
				all = append(all, e)
				return nil
			})
			return all, err
		}
		one, err := read()
		two, err2 := read()
		if d := cmp.Diff(one, two); d != "" || (err == nil) != (err2 == nil) {
			t.Errorf("two readings differ: %s", d)
		}
		for _, e := range one {
			if err := checkFile(e.Package, e.Version, e.Filename, e.Size, e.SHA256); err != nil {
				t.Errorf("a bad entry came through: %v", err)
			}
			kernelOf(e)
		}
		s := newStanzas(strings.NewReader(string(data)), "Package")
		for n := 0; s.next() != io.EOF && n <= len(data); n++ {
			if n == len(data) {
				t.Fatal("more paragraphs than bytes")
			}
		}
	})
}
