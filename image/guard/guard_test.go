package guard

import (
	"bytes"
	"debug/pe"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCodeIsItsSource assembles the source again.
func TestCodeIsItsSource(t *testing.T) {
	dir := t.TempDir()
	object, binary := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
	for _, args := range [][]string{
		{"as", "-o", object, "testdata/guard_amd64.asm"},
		{"ld", "-Ttext=0", "--oformat", "binary", "-e", "0", "-o", binary, object},
	} {
		if _, err := exec.LookPath(args[0]); err != nil && os.Getenv("CI") == "" {
			t.Skip(err)
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	got, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != codeAMD64 {
		t.Errorf("the source assembles to other bytes than code.go holds:\n%q", got)
	}
}

// TestProgram has another reader look at the file.
func TestProgram(t *testing.T) {
	b, ok := Program("amd64")
	if !ok {
		t.Fatal("no program for amd64")
	}
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	opt, is64 := f.OptionalHeader.(*pe.OptionalHeader64)
	if !is64 || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 || opt.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION {
		t.Errorf("got machine %x, optional header %T, want an EFI application for amd64", f.Machine, f.OptionalHeader)
	}
	text, err := f.Section(".text").Data()
	if err != nil || !bytes.HasPrefix(text, []byte(codeAMD64)) || opt.AddressOfEntryPoint != f.Section(".text").VirtualAddress {
		t.Errorf("the entry is not the code, %v", err)
	}
	if _, ok := Program("arm64"); ok {
		t.Error("got a program for arm64, of which there is no code")
	}
}
