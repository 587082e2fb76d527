package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/claim"
)

// secretWord is in every secret of these tests and may be in no output.
const secretWord = "hunter2"

// runClaim runs `wayside claim` with a key folder.
func runClaim(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := newRootCmd()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append([]string{"claim"}, append(args, "--keys", dir)...))
	err := cmd.ExecuteContext(t.Context())
	if strings.Contains(out.String(), secretWord) || err != nil && strings.Contains(err.Error(), secretWord) {
		t.Errorf("claim %q: a secret is in what is said: %s %v", args, out.String(), err)
	}
	return out.String(), err
}

// keySet makes a key folder and gives its update root.
func keySet(t *testing.T) (dir string, root []byte) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keys")
	if _, err := keys.Init(dir, keys.Options{}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	root, err := keys.UpdateRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, root
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestClaimNew(t *testing.T) {
	dir, root := keySet(t)
	pw, file := filepath.Join(t.TempDir(), "pw"), filepath.Join(t.TempDir(), "a.claim")
	write(t, pw, secretWord)
	args := []string{"new", "--name", "shop-042", "--secret", "link.password=@" + pw, "--var", "till=7=8",
		"--mac", "52-54-00-AB-CD-EF", "--expires", "2099-03-31", "-o", file}
	if out, err := runClaim(t, dir, args...); err != nil || !strings.Contains(out, "claim of shop-042, to be taken over by 2099-03-31") {
		t.Fatalf("%v, %s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := claim.Open(text, root)
	if err != nil {
		t.Fatal(err)
	}
	want := &claim.Claim{Version: 1, Name: "shop-042", Issued: c.Issued, Expires: time.Date(2099, 3, 31, 23, 59, 59, 0, time.UTC), MAC: "52:54:00:ab:cd:ef",
		Variables: map[string]string{"till": "7=8"}, Secrets: map[string][]byte{"link.password": []byte(secretWord)}}
	if diff := cmp.Diff(want, c); diff != "" || time.Since(c.Issued) > time.Hour {
		t.Errorf("issued %v (-want +got):\n%s", c.Issued, diff)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v (%v), want 0600", st.Mode(), err)
	}
	if _, err := runClaim(t, dir, args...); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a second time: got %v, want it refused", err)
	}

	// Rotated keys: boxes of images of before and of after take it.
	f, err := keys.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Rotate(claim.Role, "", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := claim.Open(text, rootNow(t, dir)); err == nil {
		t.Error("a claim by the retired key is believed by an image of after")
	}
	next := filepath.Join(t.TempDir(), "b.claim")
	if _, err := runClaim(t, dir, "new", "--name", "shop-043", "-o", next); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(next)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][]byte{"before": root, "after": rootNow(t, dir)} {
		if _, err := claim.Open(text, r); err != nil {
			t.Errorf("an image of %s the rotation: %v", name, err)
		}
	}
}

func rootNow(t *testing.T, dir string) []byte {
	t.Helper()
	root, err := keys.UpdateRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestClaimInspect(t *testing.T) {
	dir, _ := keySet(t)
	other, _ := keySet(t)
	pw, file := filepath.Join(t.TempDir(), "pw"), filepath.Join(t.TempDir(), "a.claim")
	write(t, pw, secretWord)
	if _, err := runClaim(t, dir, "new", "--name", "shop-042", "--secret", "link.password=@"+pw, "-o", file); err != nil {
		t.Fatal(err)
	}
	out, err := runClaim(t, dir, "inspect", file)
	for _, want := range []string{"shop-042", "by the keys here", "any box", "link.password"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("got %v, want %q:\n%s", err, want, out)
		}
	}
	out, err = runClaim(t, other, "inspect", "--json", file)
	var all []madeClaim
	if bad := json.Unmarshal([]byte(out), &all); bad != nil || err == nil || len(all) != 1 || all[0].Signed != "no" || all[0].Secrets[0] != "link.password" {
		t.Errorf("by other keys: got %v, %s", err, out)
	}
	if out, err = runClaim(t, t.TempDir(), "inspect", file); err != nil || !strings.Contains(out, "not checked") {
		t.Errorf("without keys: got %v, %s", err, out)
	}
	write(t, file+"x", "garbage")
	if _, err := runClaim(t, dir, "inspect", file+"x"); err == nil || !strings.Contains(err.Error(), "is no claim") {
		t.Errorf("garbage: got %v", err)
	}
}

func TestClaimTable(t *testing.T) {
	dir, root := keySet(t)
	here := t.TempDir()
	table, out := filepath.Join(here, "boxes.csv"), filepath.Join(here, "claims")
	write(t, filepath.Join(here, "token"), secretWord+" of a file")
	write(t, table, "\ufeffname,mac,var.till,secret.link.password,secret.api.token\nshop-1,52:54:00:00:00:01,7,"+secretWord+",@token\nshop-2,,8,\""+secretWord+", two\",\n")
	said, err := runClaim(t, dir, "new", "--from", table, "-o", out, "--json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said, "2 claims") {
		t.Errorf("got %s, want progress", said)
	}
	got := map[string]*claim.Claim{}
	for _, name := range []string{"shop-1", "shop-2"} {
		text, err := os.ReadFile(filepath.Join(out, name+".claim"))
		if err != nil {
			t.Fatal(err)
		}
		if got[name], err = claim.Open(text, root); err != nil {
			t.Fatal(err)
		}
	}
	one, two := got["shop-1"], got["shop-2"]
	if string(one.Secrets["api.token"]) != secretWord+" of a file" || string(two.Secrets["link.password"]) != secretWord+", two" ||
		len(two.Secrets) != 1 || two.MAC != "" || one.Variables["till"] != "7" {
		t.Errorf("got %+v and %+v", one, two)
	}
	if _, err := runClaim(t, dir, "new", "--from", table, "-o", out); err == nil || !strings.Contains(err.Error(), "shop-1.claim exists") {
		t.Errorf("a second time: got %v", err)
	}
	for text, want := range map[string]string{
		"":                          "is empty",
		"box\nshop-1\n":             "headings with name",
		"name,colour\nshop-1,red\n": `column 2: want name, serial, mac, var.NAME or secret.FILE, got "colour"`,
		"name\n":                    "no row below",
		"name\nshop-3\nshop-3\n":    `:3: the box "shop-3" is on line 2 already`,
		"name\nshop-3\nShop 4\n":    `claim of "Shop 4": name`,
		"name,secret.x\nshop-3,a\nshop-4,@none\n":      "no such file",
		"name,secret.x\nshop-3,a,b\n":                  "wrong number of fields",
		"name,secret.a/b\nshop-3," + secretWord:        `secret "a/b"`,
		"name,var.a\nshop-3,{site}\n":                  "variable a",
		"name,secret.x,secret.x\nshop-3,a,b\n":         "there twice",
		"name,secret.x\nshop-3,\"" + secretWord + "\n": "line 2",
	} {
		write(t, table, text)
		other := filepath.Join(here, "other")
		if _, err := runClaim(t, dir, "new", "--from", table, "-o", other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if _, err := os.Stat(other); err == nil {
			t.Fatalf("%q: something was written", text)
		}
	}
}

func TestClaimRefuses(t *testing.T) {
	dir, _ := keySet(t)
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{}, "give --name"},
		{[]string{"--name", "Shop 42"}, "lower-case"},
		{[]string{"--name", "a", "--secret", "x=" + secretWord}, "history"},
		{[]string{"--name", "a", "--secret", "x=@none"}, "no such file"},
		{[]string{"--name", "a", "--var", "till"}, "NAME=VALUE"},
		{[]string{"--name", "a", "--mac", "12"}, "mac: "},
		{[]string{"--name", "a", "--expires", "soon"}, "90d"},
		{[]string{"--name", "a", "--expires", "2020-01-01"}, "is over"},
		{[]string{"--name", "a", "--from", "b"}, "none of the others"},
	} {
		if _, err := runClaim(t, dir, append([]string{"new"}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
	if _, err := runClaim(t, t.TempDir(), "new", "--name", "a"); err == nil || !strings.Contains(err.Error(), "wayside keys init") {
		t.Errorf("without keys: got %v", err)
	}
	if left, _ := os.ReadDir("."); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// An image takes a claim that its boxes will take, and that makes the profile
// whole.
func TestFlashClaim(t *testing.T) {
	dir, _ := keySet(t)
	img := testImage(t, dir, "1.0.0", 1)
	here := t.TempDir()
	pw, profile, mine := filepath.Join(here, "pw"), filepath.Join(here, "shops.yaml"), filepath.Join(here, "mine.claim")
	write(t, pw, secretWord)
	write(t, profile, `version: 1
site: shops
variables: {till: "1"}
description: till {var:till}
links:
  - {name: centre, bootstrap: ["h:9092"], topics: [t], sasl: {mechanism: SCRAM-SHA-512, user: "{site}", password: link.password}}
`)
	if _, err := runClaim(t, dir, "new", "--name", "shop-042", "--secret", "link.password=@"+pw, "--var", "till=7", "-o", mine); err != nil {
		t.Fatal(err)
	}
	src, err := (&flashOptions{keys: dir, site: profile, claim: mine}).open(t.Context(), img, newProgress(&bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	c, err := image.Open(src.file, src.size)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(mine)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.Owners[layout.ESPClaim], text) || len(c.Owners[layout.ESPSite]) == 0 || src.claim != "shop-042" {
		t.Errorf("got files %v for %q", len(c.Owners), src.claim)
	}

	foreign, _ := keySet(t)
	for _, c := range []struct {
		file, keys string
		args       []string
	}{
		{"foreign", foreign, []string{"--name", "a", "--secret", "link.password=@" + pw}},
		{"poor", dir, []string{"--name", "a"}},
		{"strange", dir, []string{"--name", "a", "--secret", "link.password=@" + pw, "--var", "tall=7"}},
	} {
		if _, err := runClaim(t, c.keys, append([]string{"new", "-o", filepath.Join(here, c.file)}, c.args...)...); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(here, "garbage"), "garbage")
	for name, want := range map[string]string{
		"foreign": "not signed by the owner of this image", "poor": "names secrets that are neither in it nor in --secrets: link.password",
		"strange": "variable tall is none of the site profile's", "garbage": "is no claim", "none": "no such file",
	} {
		o := &flashOptions{keys: dir, site: profile, claim: filepath.Join(here, name)}
		if s, err := o.open(t.Context(), img, newProgress(&bytes.Buffer{})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", name, s, err, want)
		}
	}
	// What the claim lacks may come with the secrets of all boxes.
	secrets := filepath.Join(here, "secrets")
	if err := os.Mkdir(secrets, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(secrets, "link.password"), secretWord)
	o := &flashOptions{keys: dir, site: profile, claim: filepath.Join(here, "poor"), secrets: secrets}
	if s, err := o.open(t.Context(), img, newProgress(&bytes.Buffer{})); err != nil {
		t.Errorf("with --secrets: %v", err)
	} else {
		s.Close()
	}
}
