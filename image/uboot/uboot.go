// Package uboot writes what U-Boot reads of a boot partition: the script that
// chooses a kernel image, and the environment that runs the script.
package uboot

import (
	_ "embed"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/layout"
)

//go:embed boot.cmd
var source string

// Script is the boot script, as layout.ESPBootScript: a legacy image that holds
// one script (U-Boot's include/image.h and cmd/source.c). epoch is in Unix
// seconds.
func Script(epoch int64) []byte {
	text := source
	for name, at := range map[string]int64{"FIRST": layout.BootRecordSectors[0], "SECOND": layout.BootRecordSectors[1]} {
		text = strings.ReplaceAll(text, name, strconv.FormatInt(at, 16))
	}
	// Lengths of the image's parts, ended by a zero, then the only part.
	body := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	body = append(binary.BigEndian.AppendUint32(body, 0), text...)
	h := make([]byte, headerSize)
	be := binary.BigEndian
	be.PutUint32(h, imageMagic)
	be.PutUint32(h[8:], uint32(epoch))
	be.PutUint32(h[12:], uint32(len(body)))
	be.PutUint32(h[24:], crc32.ChecksumIEEE(body))
	copy(h[28:], []byte{osLinux, archARM64, typeScript, compNone})
	copy(h[32:], "wayside")
	be.PutUint32(h[4:], crc32.ChecksumIEEE(h))
	return append(h, body...)
}

const (
	headerSize = 64
	imageMagic = 0x27051956
	osLinux    = 5
	archARM64  = 22
	typeScript = 6
	compNone   = 0

	// envSize is CONFIG_ENV_SIZE of Debian's u-boot-rpi.
	envSize = 0x4000
)

// environment replaces U-Boot's own: no pause in which noise on a serial line
// stops the boot for ever, no waiting for USB, and no search for other systems,
// for which U-Boot would write to the boot partition.
var environment = []string{
	"bootcmd=setenv devtype mmc; setenv devnum 0; setenv distro_bootpart 1; load mmc 0:1 3f00000 " + layout.ESPBootScript + " && source 3f00000; reset",
	"bootdelay=-2",
	"stdin=serial",
	"stdout=serial,vidconsole",
	"stderr=serial,vidconsole",
}

// Env is the environment, as layout.ESPBootEnv: a checksum, then lines that
// end with a zero, then zeros (U-Boot's include/env_internal.h).
func Env() []byte {
	b := make([]byte, envSize)
	copy(b[4:], strings.Join(environment, "\x00"))
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
	return b
}
