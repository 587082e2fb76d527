package release_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/release"
)

func target() release.Target {
	return release.Target{
		Format: 1, Kind: release.KindRelease, Board: "x86-64-uefi", Arch: "amd64", Version: "1.4.0", Counter: 7,
		RootHash: strings.Repeat("ab", 32), DataBlocks: 100, RootBytes: 500_000, UKIBytes: 1000, DropsDrivers: []string{"e1000", "virtio-net"}, Notes: "faster",
	}
}

func TestDecodeTarget(t *testing.T) {
	data, err := json.Marshal(target())
	if err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(string(data), "{", `{"from_the_future":[1],`, 1)
	got, err := release.DecodeTarget([]byte(later))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(target(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if got, want := got.Path(release.TargetUKI), "x86-64-uefi/1.4.0/wayside.efi"; got != want {
		t.Errorf("path: got %s, want %s", got, want)
	}
}

func TestDecodeTargetRefuses(t *testing.T) {
	for name, change := range map[string]func(*release.Target){
		"later format":   func(r *release.Target) { r.Format = 2 },
		"no format":      func(r *release.Target) { r.Format = 0 },
		"folder":         func(r *release.Target) { r.Version = "../x" },
		"board":          func(r *release.Target) { r.Board = "" },
		"no counter":     func(r *release.Target) { r.Counter = 0 },
		"no root":        func(r *release.Target) { r.DataBlocks = 0 },
		"huge root":      func(r *release.Target) { r.DataBlocks = 1 << 40 },
		"negative size":  func(r *release.Target) { r.PackBytes = -1 },
		"short hash":     func(r *release.Target) { r.RootHash = "abcd" },
		"driver unnamed": func(r *release.Target) { r.DropsDrivers = []string{"e1000", ""} },
		"hash not a hex": func(r *release.Target) { r.RootHash = strings.Repeat("zz", 32) },
	} {
		r := target()
		change(&r)
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := release.DecodeTarget(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
