package uboot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

func TestScript(t *testing.T) {
	s := Script(1_800_000_000)
	be := binary.BigEndian
	head := bytes.Clone(s[:headerSize])
	sum := be.Uint32(head[4:])
	be.PutUint32(head[4:], 0)
	body := s[headerSize:]
	if be.Uint32(head) != 0x27051956 || crc32.ChecksumIEEE(head) != sum || be.Uint32(head[24:]) != crc32.ChecksumIEEE(body) ||
		int(be.Uint32(head[12:])) != len(body) || int(be.Uint32(body)) != len(body)-8 || be.Uint32(body[4:]) != 0 {
		t.Errorf("the header does not hold: %x", s[:headerSize+8])
	}
	text := string(body[8:])
	if !strings.Contains(text, "for copy in 10 18;") || strings.Contains(text, "FIRST") {
		t.Errorf("the record's sectors are not filled in:\n%s", text)
	}
}

// TestShell looks for what U-Boot's shell stumbles over without a word: an
// apostrophe, & and | that stand alone, a comment at the start of a block.
func TestShell(t *testing.T) {
	before := ""
	for n, line := range strings.Split(source, "\n") {
		for _, trap := range []string{"'", " & ", " | "} {
			if strings.Contains(line, trap) {
				t.Errorf("boot.cmd:%d: %q in %q", n+1, trap, line)
			}
		}
		if strings.HasPrefix(strings.TrimSpace(line), "#") && (strings.HasSuffix(before, "then") || strings.HasSuffix(before, "do")) {
			t.Errorf("boot.cmd:%d: a comment begins a block", n+1)
		}
		before = line
	}
}

func TestEnv(t *testing.T) {
	e := Env()
	if len(e) != 0x4000 || binary.LittleEndian.Uint32(e) != crc32.ChecksumIEEE(e[4:]) {
		t.Fatalf("%d bytes, or a wrong checksum", len(e))
	}
	words := strings.Split(strings.TrimRight(string(e[4:]), "\x00"), "\x00")
	if len(words) != len(environment) || words[1] != "bootdelay=-2" {
		t.Errorf("got %q", words)
	}
}
