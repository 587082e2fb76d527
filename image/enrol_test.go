package image_test

import (
	"strings"
	"testing"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
)

// TestEnrolment builds with keys to enrol: they are on the boot partition, the
// boot loader is told when, and somebody else's are refused.
func TestEnrolment(t *testing.T) {
	in := input(t)
	in.Enrol = &image.Enrolment{Mode: image.EnrolManual, Platform: keys.Platform{
		PK: imagetest.Keys(t), KEK: imagetest.Keys(t), DB: in.Keys,
	}}
	f, res := build(t, in, t.TempDir())
	if err := image.Verify(f, res.Size, in.Keys.Cert); err != nil {
		t.Fatal(err)
	}
	report, err := image.Inspect(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	enrols := map[string]int{}
	for _, file := range report.Files {
		if len(file.Enrols) > 0 {
			enrols[file.Path] = len(file.Enrols)
		}
	}
	for _, name := range []string{"PK", "KEK", "db"} {
		if enrols[layout.ESPKeys+"/"+name+".auth"] != 1 {
			t.Errorf("%s enrols nothing: %v", name, enrols)
		}
	}

	in.Enrol.Platform.DB = imagetest.Keys(t)
	f, res = build(t, in, t.TempDir())
	if err := image.Verify(f, res.Size, in.Keys.Cert); err == nil || !strings.Contains(err.Error(), "db.auth") {
		t.Errorf("db of another signer: got %v, want it refused", err)
	}
	in.Enrol.Mode = "always"
	if _, err := (&image.Builder{Input: in}).Plan(t.Context()); err == nil {
		t.Error("a mode that there is not: got no error")
	}
}

// TestEncryptionNeedsAPolicyKey refuses an image whose boxes could not open
// what they would make.
func TestEncryptionNeedsAPolicyKey(t *testing.T) {
	in := input(t)
	in.Encrypt = true
	if _, err := (&image.Builder{Input: in}).Plan(t.Context()); err == nil {
		t.Error("got no error")
	}
	in.PolicyKey = imagetest.Keys(t).Key
	p, err := (&image.Builder{Input: in}).Plan(t.Context())
	if err != nil || !strings.Contains(strings.Join(p.Cmdline, " "), layout.CmdEncrypt+"=tpm") {
		t.Errorf("got %v, want the word on the command line", err)
	}
}
