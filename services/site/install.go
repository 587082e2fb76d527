package site

import (
	"errors"
	"fmt"
	"path"

	"github.com/goccy/go-yaml"
)

// Install is layout.ESPInstall: a stick with such a file installs to a disk of
// the machine that it starts.
type Install struct {
	Version int `yaml:"version"` // 1
	// Disk is "smallest", "only" (refused where there are two), or a device,
	// "/dev/nvme0n1"; "" asks at the console.
	Disk string `yaml:"disk,omitempty"`
	// Model is what the disk's model must match, with * and ?.
	Model string `yaml:"model,omitempty"`
	// MinGiB and MaxGiB bound the disk's size, in GiB; 0 does not.
	MinGiB int `yaml:"min_gib,omitempty"`
	MaxGiB int `yaml:"max_gib,omitempty"`
	// Wipe says what may be overwritten without a yes at the console: "no" is
	// nothing, "yes" whatever is no Wayside box, "always" that too.
	Wipe string `yaml:"wipe,omitempty"`
}

// Words of Install.
const (
	DiskSmallest = "smallest"
	DiskOnly     = "only"

	WipeNo     = "no"
	WipeYes    = "yes"
	WipeAlways = "always"
)

// ParseInstall reads an install file; file is only used in messages.
func ParseInstall(file string, data []byte) (*Install, error) {
	if len(data) > 64<<10 {
		return nil, fmt.Errorf("%s: more than 64 KiB", file)
	}
	in := &Install{}
	if err := yaml.UnmarshalWithOptions(data, in, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %s", file, yaml.FormatError(err, false, false))
	}
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return in, nil
}

func (in *Install) check() error {
	switch in.Wipe {
	case "", "false":
		in.Wipe = WipeNo
	case "true":
		in.Wipe = WipeYes
	}
	switch {
	case in.Version != 1:
		return fmt.Errorf("version: %d: want 1", in.Version)
	case in.Disk != "" && in.Disk != DiskSmallest && in.Disk != DiskOnly && path.Dir(in.Disk) != "/dev":
		return fmt.Errorf("disk: %q: want smallest, only, or a device such as /dev/nvme0n1", in.Disk)
	case in.Wipe != WipeNo && in.Wipe != WipeYes && in.Wipe != WipeAlways:
		return fmt.Errorf("wipe: %q: want no, yes or always", in.Wipe)
	case in.Wipe != WipeNo && in.Disk == "":
		return errors.New("wipe: without disk it is not known what to wipe")
	case in.MinGiB < 0 || in.MaxGiB < 0:
		return errors.New("min_gib, max_gib: want sizes above zero")
	}
	_, err := path.Match(in.Model, "")
	return err
}
