package guard

import (
	"bytes"
	"debug/pe"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// architectures are those that there is a program for, with the GNU tools
// that assemble its source.
var architectures = []struct {
	goarch  string
	tools   string // prefix of as and objcopy
	machine uint16
	code    string
}{
	{"amd64", "", pe.IMAGE_FILE_MACHINE_AMD64, codeAMD64},
	{"arm64", "aarch64-linux-gnu-", pe.IMAGE_FILE_MACHINE_ARM64, codeARM64},
}

// TestCodeIsItsSource assembles the sources again.
func TestCodeIsItsSource(t *testing.T) {
	for _, a := range architectures {
		t.Run(a.goarch, func(t *testing.T) {
			dir := t.TempDir()
			object, binary := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
			for _, args := range [][]string{
				{a.tools + "as", "-o", object, "testdata/guard_" + a.goarch + ".asm"},
				{a.tools + "objcopy", "-O", "binary", "-j", ".text", object, binary},
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
			if string(got) != a.code {
				t.Errorf("the source assembles to other bytes than code.go holds:\n%q", got)
			}
		})
	}
}

// TestProgram has another reader look at the files.
func TestProgram(t *testing.T) {
	for _, a := range architectures {
		t.Run(a.goarch, func(t *testing.T) {
			b, ok := Program(a.goarch)
			if !ok {
				t.Fatal("there is no program")
			}
			f, err := pe.NewFile(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			opt, is64 := f.OptionalHeader.(*pe.OptionalHeader64)
			if !is64 || f.Machine != a.machine || opt.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION {
				t.Errorf("got machine %x, optional header %T, want an EFI application", f.Machine, f.OptionalHeader)
			}
			text, err := f.Section(".text").Data()
			if err != nil || !bytes.HasPrefix(text, []byte(a.code)) || opt.AddressOfEntryPoint != f.Section(".text").VirtualAddress {
				t.Errorf("the entry is not the code, %v", err)
			}
		})
	}
	if _, ok := Program("riscv64"); ok {
		t.Error("got a program for riscv64, of which there is no code")
	}
}
