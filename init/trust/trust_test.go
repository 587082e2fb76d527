package trust

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestSecureBoot(t *testing.T) {
	variable := func(value ...byte) *fstest.MapFile {
		return &fstest.MapFile{Data: append([]byte{6, 0, 0, 0}, value...)}
	}
	const secure, setup = "SecureBoot-" + globalGUID, "SetupMode-" + globalGUID
	for name, tt := range map[string]struct {
		vars fstest.MapFS
		want string
		fail bool
	}{
		"no UEFI":       {fstest.MapFS{}, None, false},
		"on":            {fstest.MapFS{secure: variable(1), setup: variable(0)}, On, false},
		"off":           {fstest.MapFS{secure: variable(0), setup: variable(0)}, Off, false},
		"setup":         {fstest.MapFS{secure: variable(0), setup: variable(1)}, Setup, false},
		"old firmware":  {fstest.MapFS{secure: variable(0)}, Off, false},
		"broken":        {fstest.MapFS{secure: variable(2), setup: variable(0)}, None, true},
		"broken, empty": {fstest.MapFS{secure: variable(), setup: variable(0)}, None, true},
		"broken setup":  {fstest.MapFS{secure: variable(0), setup: variable(0, 0)}, None, true},
	} {
		got, err := SecureBoot(tt.vars)
		if got != tt.want || (err != nil) != tt.fail {
			t.Errorf("%s: got %q, %v; want %q, error %v", name, got, err, tt.want, tt.fail)
		}
	}
}

func TestPCR(t *testing.T) {
	value := strings.Repeat("AB", 32)
	sys := fstest.MapFS{pcrs + "/11": {Data: []byte(value + "\n")}, pcrs + "/4": {Data: []byte("AB\n")}}
	if got, err := PCR(sys, 11); err != nil || len(got) != 32 || got[31] != 0xab {
		t.Errorf("got %x, %v; want %s", got, err, value)
	}
	if got, err := PCR(sys, 7); got != nil || err != nil {
		t.Errorf("no TPM: got %x, %v; want nothing", got, err)
	}
	if got, err := PCR(sys, 4); err == nil {
		t.Errorf("a value that is too short: got %x, want an error", got)
	}
}
