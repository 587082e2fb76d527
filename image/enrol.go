package image

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/secureboot"
)

// EnrolMode says when the boot loader enrols keys: systemd-boot's
// secure-boot-enroll. Whatever it is, only a firmware in setup mode takes them.
type EnrolMode string

const (
	// EnrolOff is what an image is built with that is not to enrol. It is
	// written down because systemd-boot's own default is if-safe.
	EnrolOff EnrolMode = "off"
	// EnrolManual offers it in the boot menu, to a person at the machine.
	EnrolManual EnrolMode = "manual"
	// EnrolIfSafe enrols by itself in virtual machines only, which lose
	// nothing that cannot be made again.
	EnrolIfSafe EnrolMode = "if-safe"
	// EnrolForce enrols by itself after a countdown of 15 s, on any machine.
	EnrolForce EnrolMode = "force"
)

// EnrolModes are those that a build can be asked for.
var EnrolModes = []EnrolMode{EnrolManual, EnrolIfSafe, EnrolForce}

// loaderConf is systemd-boot's configuration: start the newest entry at once,
// and let nobody at the keyboard change a command line. Where a person is to
// choose enrolment, the menu stays for long enough to be seen. No random seed
// is shipped: one that every box shares is none.
func loaderConf(mode EnrolMode) string {
	timeout := 0
	if mode == EnrolManual {
		timeout = 5
	}
	return fmt.Sprintf("timeout %d\neditor no\nsecure-boot-enroll %s\n", timeout, mode)
}

// enrolMode reads back which of our configurations a file is.
func enrolMode(conf []byte) (EnrolMode, bool) {
	for _, mode := range append(slices.Clone(EnrolModes), EnrolOff) {
		if string(conf) == loaderConf(mode) {
			return mode, true
		}
	}
	return "", false
}

func (e *Enrolment) mode() EnrolMode {
	if e == nil {
		return EnrolOff
	}
	return e.Mode
}

func (e *Enrolment) check() error {
	if e == nil || slices.Contains(EnrolModes, e.Mode) {
		return nil
	}
	return fmt.Errorf("enrol keys %q: it is one of %q", e.Mode, EnrolModes)
}

// files are the signed variables, named as the boot loader looks for them.
func (e *Enrolment) files(at time.Time) ([]disk.FATFile, error) {
	if e == nil {
		return nil, nil
	}
	vars, err := secureboot.Variables(e.Platform, e.Vendors, at)
	if err != nil {
		return nil, err
	}
	var files []disk.FATFile
	for _, v := range vars {
		auth, err := v.Auth()
		if err != nil {
			return nil, err
		}
		files = append(files, disk.FATFile{Path: path.Join(layout.ESPKeys, v.Name+".auth"), Data: auth})
	}
	return files, nil
}

// isKeyFile says whether a file of the boot partition is one of ours to enrol.
func isKeyFile(name string) bool {
	base, ok := strings.CutSuffix(path.Base(name), ".auth")
	return ok && path.Dir(name) == layout.ESPKeys && slices.Contains([]string{"PK", "KEK", "db"}, base)
}
