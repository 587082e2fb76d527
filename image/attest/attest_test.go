package attest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/release"
)

var (
	rel = release.Release{Version: "1.4.0", Board: "x86-64-uefi", Arch: "amd64", Epoch: 1_760_000_000, Kernel: "6.12.1", Counter: 7}
	sum = strings.Repeat("ab", 32)
)

func components(t *testing.T) []attest.Component {
	t.Helper()
	module, err := attest.GoModule("github.com/ProtonMail/go-crypto", "v1.5.2", "h1:"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return []attest.Component{attest.Debian("linux-image", "6.12.1-1+deb13u1", "amd64", sum), module, attest.GoToolchain("go1.26.8")}
}

func TestPackageURLs(t *testing.T) {
	var got []string
	for _, c := range components(t) {
		got = append(got, c.PURL)
	}
	want := []string{
		"pkg:deb/debian/linux-image@6.12.1-1%2Bdeb13u1?arch=amd64",
		"pkg:golang/github.com/protonmail/go-crypto@v1.5.2",
		"pkg:golang/stdlib@1.26.8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("package URLs (-want +got):\n%s", diff)
	}
	if _, err := attest.GoModule("x", "v1", "h2:abc"); err == nil {
		t.Error("an unknown hash was taken")
	}
}

func TestSPDX(t *testing.T) {
	data, err := attest.SPDX(rel, components(t))
	if err != nil {
		t.Fatal(err)
	}
	again, err := attest.SPDX(rel, components(t))
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("two documents of one release differ (%v)", err)
	}
	var doc v2_3.Document
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(&doc); err != nil {
		t.Errorf("the library refuses the document: %v", err)
	}
	if ids, err := spdxlib.GetDescribedPackageIDs(&doc); err != nil || len(ids) != 1 {
		t.Errorf("described: %v, %v; want the image", ids, err)
	}
	for _, want := range []string{`"SPDX-2.3"`, `"2025-10-09T08:53:20Z"`, `"filesAnalyzed": false`, `"checksumValue": "` + sum} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("no %s in:\n%s", want, data)
		}
	}
	other := rel
	other.Version = "1.4.1"
	if data, err := attest.SPDX(other, components(t)); err != nil || bytes.Contains(data, []byte(doc.DocumentNamespace)) {
		t.Errorf("two releases share the namespace %s (%v)", doc.DocumentNamespace, err)
	}
	parts, err := attest.ReadSPDX(data)
	if err != nil || len(parts) != 3 || parts[1].Name != "github.com/ProtonMail/go-crypto" || parts[0].SHA256 != sum {
		t.Errorf("read back: %+v, %v", parts, err)
	}
}

func TestProvenance(t *testing.T) {
	pair, other := imagetest.Keys(t), imagetest.Keys(t)
	subjects := []attest.Subject{{Name: "init", Hash: "sha256", Hex: sum}, {Name: "root", Hash: "dmVerity", Hex: sum}}
	src := attest.Source{URI: "https://github.com/waysideos/wayside", Commit: strings.Repeat("1f", 20)}
	statement, err := attest.Statement(rel, src, subjects, components(t))
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := attest.Sign(t.Context(), statement, pair)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // protojson varies its blanks
		again, err := attest.Statement(rel, src, subjects, components(t))
		if err != nil || !bytes.Equal(again, statement) {
			t.Fatalf("two statements differ (%v):\n%s\n%s", err, statement, again)
		}
		if signed, err := attest.Sign(t.Context(), again, pair); err != nil || !bytes.Equal(signed, envelope) {
			t.Fatalf("two signatures differ (%v)", err)
		}
	}
	got, err := attest.Verify(envelope, other.Cert, pair.Cert)
	if err != nil || !bytes.Equal(got, statement) {
		t.Errorf("verify: got %s, %v", got, err)
	}
	back, err := attest.Subjects(got)
	if diff := cmp.Diff(subjects, back); diff != "" || err != nil {
		t.Errorf("subjects (-want +got): %v\n%s", err, diff)
	}
	for _, want := range []string{
		`"_type":"https://in-toto.io/Statement/v1"`, `"predicateType":"https://slsa.dev/provenance/v1"`,
		`"gitCommit":"1f1f`, `"dirHash":"0000`, `"counter":"7"`, `"resolvedDependencies":[`,
	} {
		if !bytes.Contains(statement, []byte(want)) {
			t.Errorf("no %s in:\n%s", want, statement)
		}
	}
	if _, err := attest.Verify(envelope, other.Cert); err == nil {
		t.Error("another's certificate verifies it")
	}
	altered := bytes.Replace(statement, []byte("x86-64-uefi"), []byte("x86-64-evil"), 1)
	forged := bytes.Replace(envelope, []byte(base64.StdEncoding.EncodeToString(statement)), []byte(base64.StdEncoding.EncodeToString(altered)), 1)
	if bytes.Equal(forged, envelope) {
		t.Fatal("nothing was altered")
	}
	if _, err := attest.Verify(forged, pair.Cert); err == nil {
		t.Error("an altered statement verifies")
	}
	for _, bad := range []string{"", "{}", `{"payloadType": "text/plain"}`, "[]"} {
		if _, err := attest.Payload([]byte(bad)); err == nil {
			t.Errorf("%q was taken for an envelope", bad)
		}
	}
}

func TestStatementWantsHashes(t *testing.T) {
	for _, hex := range []string{"", "abcd", strings.Repeat("zz", 32)} {
		if _, err := attest.Statement(rel, attest.Source{}, []attest.Subject{{Name: "init", Hash: "sha256", Hex: hex}}, nil); err == nil {
			t.Errorf("hash %q: accepted", hex)
		}
	}
}
