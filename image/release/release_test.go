package release_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/release"
)

var sample = release.Release{
	Version: "1.4.0", Board: "x86-64-uefi", Arch: "amd64", Epoch: 1_760_000_000, Kernel: "6.12.1",
	Services: map[string]string{"broker": "Kafka broker"},
}

// Identifiers are part of what is built: a change here changes every image.
func TestDeriveIsStable(t *testing.T) {
	if got, want := sample.Derive("disk").String(), "36784CC6-61C4-88C7-A016-55E71483101A"; got != want {
		t.Errorf("GUID of the disk: got %s, want %s", got, want)
	}
}

func TestDeriveDependsOnEveryWord(t *testing.T) {
	seen := map[release.GUID]string{sample.Derive("disk"): "the release itself"}
	note := func(what string, g release.GUID) {
		if other, dup := seen[g]; dup {
			t.Errorf("%s has the GUID of %s", what, other)
		}
		seen[g] = what
		if g[6]>>4 != 8 || g[8]>>6 != 2 {
			t.Errorf("%s: %s is not a UUID of version 8", what, g)
		}
	}
	note("another purpose", sample.Derive("partition esp"))
	for what, change := range map[string]func(*release.Release){
		"version": func(r *release.Release) { r.Version = "1.4.1" },
		"board":   func(r *release.Release) { r.Board = "other" },
		"arch":    func(r *release.Release) { r.Arch = "arm64" },
		"epoch":   func(r *release.Release) { r.Epoch++ },
		"kernel":  func(r *release.Release) { r.Kernel = "6.12.2" },
		"border":  func(r *release.Release) { r.Version, r.Board = "1.4.0x", "86-64-uefi" },
	} {
		r := sample
		change(&r)
		note(what, r.Derive("disk"))
	}
}

func TestEncodeDecode(t *testing.T) {
	data, err := sample.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := release.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	if err := sample.Validate(); err != nil {
		t.Errorf("a good release: %v", err)
	}
	for name, change := range map[string]func(*release.Release){
		"no version":            func(r *release.Release) { r.Version = "" },
		"boot counter in it":    func(r *release.Release) { r.Version = "1.0+3" },
		"blank":                 func(r *release.Release) { r.Version = "1.0 beta" },
		"folder":                func(r *release.Release) { r.Version = "../1" },
		"no board":              func(r *release.Release) { r.Board = "" },
		"counter beyond JSON":   func(r *release.Release) { r.Counter = 1 << 53 },
		"before time began":     func(r *release.Release) { r.Epoch = 0 },
		"too long for a kernel": func(r *release.Release) { r.Version = string(make([]byte, 64)) },
	} {
		r := sample
		change(&r)
		if err := r.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
