package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/publish"
	"github.com/waysideos/wayside/image/release"
)

// testImage builds a small image that takes updates by the keys in a folder.
func testImage(t *testing.T, keyDir, version string, counter uint64) string {
	t.Helper()
	pair, _, err := keys.LoadOrCreate(keyDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	root, err := keys.UpdateRoot(keyDir)
	if err != nil {
		t.Fatal(err)
	}
	binary := imagetest.Binary(t)
	b := image.Builder{Input: image.Input{
		Version: version, Epoch: 1_760_000_000, Counter: counter, Board: imagetest.Board(),
		Kernel: imagetest.Kernel(t), Loader: imagetest.Loader(), Init: binary, Services: binary,
		Keys: pair, UpdateRoot: root, CacheDir: t.TempDir(),
	}}
	res, err := b.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return res.Path
}

// wayside runs the command line and returns its standard output.
func wayside(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newRootCmd()
	var out, log bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&log)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestPublishCommand(t *testing.T) {
	keyDir, repo := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "repo")
	one, two := testImage(t, keyDir, "1.0", 1), testImage(t, keyDir, "1.1", 2)
	run := func(args ...string) published {
		t.Helper()
		out, err := wayside(t, append([]string{"publish", "--keys", keyDir, "--repo", repo, "--json"}, args...)...)
		if err != nil {
			t.Fatalf("publish %q: %v", args, err)
		}
		var res published
		if err := json.Unmarshal([]byte(out), &res); err != nil {
			t.Fatalf("publish %q: %v in %s", args, err, out)
		}
		return res
	}
	res := run("--notes", "first", "--min-counter", "1", one)
	if len(res.Added) != 1 || len(res.Releases) != 1 || len(res.Expires) != 4 {
		t.Fatalf("first release: %+v", res)
	}
	first := res.Releases[0]
	if first.Board != "test-board" || first.Counter != 1 || first.MinCounter != 1 || first.Notes != "first" || first.PackBytes == 0 || first.RootHash == "" {
		t.Errorf("first release: %+v", first)
	}
	for _, name := range []string{"wayside.efi", "root.pack", "root.index", "sbom.spdx.json", "provenance.json"} {
		if first.Files[name] == 0 {
			t.Errorf("%s is not published: %v", name, first.Files)
		}
	}
	if same := run("--notes", "first", "--min-counter", "1", one); len(same.Added) != 0 || len(same.Same) != 1 {
		t.Errorf("the same again: %+v", same)
	}
	if res = run(two); len(res.Releases) != 2 || res.Releases[0].Version != "1.1" {
		t.Errorf("second release: %+v", res)
	}
	if patch := release.TargetPatch(first.RootHash); res.Releases[0].Files[patch] == 0 {
		t.Errorf("%s is not published: %v", patch, res.Releases[0].Files)
	}
	if _, err := keysFolder(t, keyDir).Rotate("timestamp", "", res.Expires["timestamp"].AddDate(0, 0, -30)); err != nil {
		t.Fatal(err)
	}
	run("--refresh")
	if _, err := os.Stat(filepath.Join(repo, "2.root.json")); err != nil {
		t.Errorf("the new root is not published: %v", err)
	}
	if res = run("--remove", "1.0"); len(res.Releases) != 1 || res.Releases[0].Version != "1.1" {
		t.Errorf("after removal: %+v", res)
	}
	if text, err := wayside(t, "publish", "--keys", keyDir, "--repo", repo, "--list"); err != nil || !strings.Contains(text, "1.1") || !strings.Contains(text, "expires") {
		t.Errorf("list: %v\n%s", err, text)
	}
}

func keysFolder(t *testing.T, dir string) *keys.Folder {
	t.Helper()
	f, err := keys.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPublishCommandRefuses(t *testing.T) {
	keyDir, other := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "other")
	img := testImage(t, keyDir, "1.0", 1)
	if _, _, err := keys.LoadOrCreate(other, nil); err != nil {
		t.Fatal(err)
	}
	repo := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no repository":         {[]string{img}, "--repo"},
		"nothing to do":         {[]string{"--repo", repo}, "want either"},
		"two things":            {[]string{"--repo", repo, "--list", img}, "want either"},
		"another board":         {[]string{"--repo", repo, "--keys", keyDir, "--board", "shop", img}, "test-board"},
		"other keys":            {[]string{"--repo", repo, "--keys", other, img}, "refused"},
		"no keys":               {[]string{"--repo", repo, "--keys", t.TempDir(), img}, "keys init"},
		"no such image":         {[]string{"--repo", repo, "--keys", keyDir, "gone.img"}, "gone.img"},
		"list of no repository": {[]string{"--repo", filepath.Join(repo, "gone"), "--keys", keyDir, "--list"}, "gone"},
		"refresh of none":       {[]string{"--repo", filepath.Join(repo, "gone"), "--keys", keyDir, "--refresh"}, "gone"},
		"fewer patches than 0":  {[]string{"--repo", repo, "--keys", keyDir, "--patches=-1", img}, "--patches"},
		"nothing to remove":     {[]string{"--repo", repo, "--keys", keyDir, "--remove", "3.0"}, "no such release"},
	} {
		if _, err := wayside(t, append([]string{"publish"}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("altered"), 300<<20) // in the slot
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wayside(t, "publish", "--repo", repo, "--keys", keyDir, img); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("an altered image: got %v", err)
	}
	if _, err := publish.Open(repo, keysFolder(t, keyDir), publish.Delta, keysTime); err != nil {
		t.Errorf("a refusal left the repository locked or broken: %v", err)
	}
}

func TestInspectAttested(t *testing.T) {
	keyDir := filepath.Join(t.TempDir(), "keys")
	img := testImage(t, keyDir, "1.0", 1)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--sbom"}, "stdlib"},
		{[]string{"--sbom", "--json"}, `"spdxVersion": "SPDX-2.3"`},
		{[]string{"--provenance"}, `"predicateType": "https://slsa.dev/provenance/v1"`},
		{[]string{"--provenance", "--json"}, `"payloadType":"application/vnd.in-toto+json"`},
		{[]string{"--json"}, `"update_root":1`},
		{nil, "by update root 1"},
	} {
		out, err := wayside(t, append([]string{"inspect", "--keys", keyDir, img}, c.args...)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("inspect %q: %v, no %q in:\n%s", c.args, err, c.want, out)
		}
	}
}
