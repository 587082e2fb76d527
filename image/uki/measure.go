package uki

import (
	"crypto/sha256"
	"fmt"
)

// PCR is the value of a register in a TPM's SHA-256 bank. A TPM starts with
// zeros and is only ever extended.
type PCR [sha256.Size]byte

func (p *PCR) extend(digest [sha256.Size]byte) {
	*p = sha256.Sum256(append(p[:], digest[:]...))
}

// measured are the sections that systemd's stub measures, in its order, each
// as its name with a terminating zero and then its content (systemd 257,
// src/boot/stub.c; UAPI group, Unified Kernel Image). The signature of the
// result, .pcrsig, cannot be among them.
var measured = []string{
	Linux, OSRel, Cmdline, Initrd, ".ucode", ".splash", ".dtb", Uname, ".sbat", ".pcrpkey", ".profile",
}

// PCR11 predicts what a TPM holds in register 11 when a UKI's kernel starts:
// nothing but the UKI is measured there.
func PCR11(pe []byte) (PCR, error) {
	sections, err := Sections(pe)
	if err != nil {
		return PCR{}, err
	}
	var p PCR
	for _, name := range measured {
		if data := Find(sections, name); data != nil {
			p.extend(sha256.Sum256(append([]byte(name), 0)))
			p.extend(sha256.Sum256(data))
		}
	}
	return p, nil
}

// PCR4 predicts register 4 for a machine whose firmware boots from this disk
// at its first attempt: the programs that are started, in order. Firmware that
// tries other devices before, or starts programs of its own, holds another
// value (TCG PC Client Platform Firmware Profile 1.06, section 3.3.4.5).
func PCR4(programs ...[]byte) (PCR, error) {
	var p PCR
	p.extend(sha256.Sum256([]byte("Calling EFI Application from Boot Option")))
	p.extend(sha256.Sum256(make([]byte, 4))) // the separator
	for _, pe := range programs {
		f, err := parse(pe)
		if err != nil {
			return PCR{}, fmt.Errorf("measure: %w", err)
		}
		p.extend([sha256.Size]byte(f.digest()))
	}
	return p, nil
}
