package modules_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/modules"
)

const rel = imagetest.KernelRelease

func index(t *testing.T) *modules.Index {
	t.Helper()
	ix, err := modules.Read(t.Context(), imagetest.Kernel(t), rel)
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

func names(mods []modules.Module) []string {
	var out []string
	for _, m := range mods {
		out = append(out, m.Name)
	}
	return out
}

func TestSelect(t *testing.T) {
	ix := index(t)
	for _, c := range []struct {
		words, want string
	}{
		{"virtio_blk", "virtio_blk"},
		{"virtio-blk", "virtio_blk"},
		{"virtio_pci", ""}, // built in
		{"erofs", "crc_generic erofs libcrc"},
		{"kernel/net/802", "garp mrp stp_core"},
		{"kernel/net/802/mrp.ko", "mrp"},
		{"kernel/net/802/mrp", "mrp"},
		{"8021q", "garp mrp stp_core 8021q"},
		{"mrp virtio_blk mrp", "virtio_blk mrp"},
		{"virtio:d00000002v00001AF4", "virtio_blk"},
		{"pci:v00001AF4d00001000sv00001AF4", ""}, // of what is built in
	} {
		got, err := ix.Select(strings.Fields(c.words))
		if err != nil {
			t.Errorf("%s: %v", c.words, err)
		}
		if strings.Join(names(got), " ") != c.want {
			t.Errorf("%s selects %q, want %q", c.words, names(got), c.want)
		}
	}
	for _, word := range []string{"nosuch", "kernel/nosuch", "kernel/net/80", "pci:v00008086d00001234"} {
		if got, err := ix.Select([]string{word}); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s selects %q, %v; want an error that names it", word, names(got), err)
		}
	}
}

func TestTables(t *testing.T) {
	mods, err := index(t).Select([]string{"erofs", "8021q"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		write func(*bytes.Buffer) error
		want  string
	}{
		{"modules.dep", func(b *bytes.Buffer) error { return modules.WriteDep(b, mods) }, `
kernel/crypto/crc-generic.ko:
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc.ko
kernel/lib/libcrc.ko:
kernel/net/802/garp.ko: kernel/net/802/stp_core.ko
kernel/net/802/mrp.ko:
kernel/net/802/stp_core.ko:
kernel/net/8021q/8021q.ko: kernel/net/802/mrp.ko kernel/net/802/garp.ko kernel/net/802/stp_core.ko
`},
		{"modules.alias", func(b *bytes.Buffer) error { return modules.WriteAlias(b, mods) }, `
alias crc crc_generic
alias crypto-crc crc_generic
alias fs-erofs erofs
alias rtnl-link-vlan 8021q
`},
		{"modules.softdep", func(b *bytes.Buffer) error { return modules.WriteSoftdep(b, mods) }, `
softdep libcrc pre: crc post: absent
`},
	} {
		var got bytes.Buffer
		if err := c.write(&got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want[1:], got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWriteDepRefuses(t *testing.T) {
	for what, mods := range map[string][]modules.Module{
		"a circle":             {{Name: "a", Depends: []string{"b"}}, {Name: "b", Depends: []string{"a"}}},
		"a missing dependency": {{Name: "a", Depends: []string{"b"}}},
	} {
		if err := modules.WriteDep(new(bytes.Buffer), mods); err == nil {
			t.Errorf("%s was written", what)
		}
	}
}

func TestBuiltin(t *testing.T) {
	ix := index(t)
	if diff := cmp.Diff([]string{"kernel/drivers/virtio/virtio_pci.ko"}, ix.Builtin); diff != "" {
		t.Errorf("built in (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"alias pci:v00001AF4d* virtio_pci"}, ix.BuiltinAliases); diff != "" {
		t.Errorf("aliases (-want +got):\n%s", diff)
	}
	if got := ix.Loadable([]string{"virtio-pci", "virtio-blk", "virtio_blk", "nosuch"}); !cmp.Equal(got, []string{"virtio_blk"}) {
		t.Errorf("loadable: %q, want virtio_blk alone", got)
	}
}

// A cached index is believed, which is what makes a warm build fast; altered
// modules are another kernel.
func TestLoadUsesTheCache(t *testing.T) {
	pkg, cache := imagetest.Kernel(t), t.TempDir()
	if _, err := modules.Load(t.Context(), pkg, rel, cache); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cache, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache holds %q, %v; want one index", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], bytes.ReplaceAll(data, []byte(`"snd"`), []byte(`"cached"`)), 0o644); err != nil {
		t.Fatal(err)
	}
	ix, err := modules.Load(t.Context(), pkg, rel, cache)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ix.Select([]string{"cached"}); err != nil {
		t.Errorf("the second Load read the modules again: %v", err)
	}
	pkg["usr/lib/modules/"+rel+"/kernel/sound/snd.ko.xz"].Data = imagetest.XZ(t, imagetest.Module("name=altered"))
	if ix, err = modules.Load(t.Context(), pkg, rel, cache); err != nil {
		t.Fatal(err)
	}
	if _, err := ix.Select([]string{"altered"}); err != nil {
		t.Errorf("Load took the index of another kernel: %v", err)
	}
}

func TestExtractRepairsTheCache(t *testing.T) {
	pkg, cache := imagetest.Kernel(t), t.TempDir()
	mods, err := index(t).Select([]string{"8021q"})
	if err != nil {
		t.Fatal(err)
	}
	files, err := modules.Extract(t.Context(), pkg, rel, mods, cache)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(files[0])
	if err != nil || int64(len(want)) != mods[0].Size {
		t.Fatalf("extracted %d bytes, %v; want %d", len(want), err, mods[0].Size)
	}
	if err := os.WriteFile(files[0], append([]byte("x"), want[1:]...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := modules.Extract(t.Context(), pkg, rel, mods, cache); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a damaged module stayed in the cache: %v", err)
	}
}

func FuzzParseModinfo(f *testing.F) {
	f.Add(imagetest.Module("name=a", "depends=b,c", "alias=pci:v*", "softdep=pre: d", "junk"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, ko []byte) {
		m := modules.Module{Path: "kernel/a-b.ko"}
		if err := modules.ParseModinfo(ko, &m); err == nil && m.Name == "" {
			t.Error("a module without a name")
		}
	})
}
