package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// listDisks asks diskutil. What it prints as a property list plutil, which
// every macOS has, makes JSON of.
func listDisks() ([]blockDisk, error) {
	var list struct{ WholeDisks []string }
	if err := diskutil(&list, "list", "-plist", "physical"); err != nil {
		return nil, err
	}
	var all []blockDisk
	for _, name := range list.WholeDisks {
		var info diskInfo
		if err := diskutil(&info, "info", "-plist", name); err != nil {
			return nil, err
		}
		var parts struct {
			AllDisksAndPartitions []struct {
				Partitions []struct{ DeviceIdentifier, MountPoint string }
			}
		}
		if err := diskutil(&parts, "list", "-plist", name); err != nil {
			return nil, err
		}
		d := info.disk()
		for _, whole := range parts.AllDisksAndPartitions {
			for _, p := range whole.Partitions {
				if p.MountPoint != "" {
					d.Uses = append(d.Uses, p.MountPoint+" on "+p.DeviceIdentifier)
				}
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// diskInfo is what `diskutil info -plist` says of a disk.
type diskInfo struct {
	DeviceIdentifier, MediaName              string
	Size                                     int64
	DeviceBlockSize                          int
	Internal, RemovableMediaOrExternalDevice bool
	WritableMedia                            bool
}

func (i diskInfo) disk() blockDisk {
	return blockDisk{
		Device: "/dev/" + i.DeviceIdentifier, Model: i.MediaName, Size: i.Size, Sector: i.DeviceBlockSize,
		Removable: i.RemovableMediaOrExternalDevice, ReadOnly: !i.WritableMedia,
		System: i.Internal && !i.RemovableMediaOrExternalDevice,
	}
}

func diskutil(into any, args ...string) error {
	list, err := exec.Command("diskutil", args...).Output()
	if err != nil {
		return fmt.Errorf("diskutil %s: %v", strings.Join(args, " "), err)
	}
	convert := exec.Command("plutil", "-convert", "json", "-o", "-", "-")
	convert.Stdin = bytes.NewReader(list)
	text, err := convert.Output()
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read what diskutil %s prints: %v", strings.Join(args, " "), err)
	}
	return nil
}

// findDisk finds the disk that a path names, of either of its two nodes.
func findDisk(device string) (blockDisk, error) {
	if st, err := os.Stat(device); err != nil {
		return blockDisk{}, fmt.Errorf("open the disk: %w", err)
	} else if st.Mode().IsRegular() {
		return blockDisk{}, fmt.Errorf("%s: %w but a file", device, errNoDisk)
	}
	all, err := listDisks()
	if err != nil {
		return blockDisk{}, err
	}
	name := strings.Replace(device, "/dev/rdisk", "/dev/disk", 1)
	for _, d := range all {
		if d.Device == name {
			return d, nil
		}
	}
	return blockDisk{}, fmt.Errorf("%s: %w, or one partition of it: an image is for the whole disk; see diskutil list", device, errNoDisk)
}

// openDisk is the raw node of a disk: nothing is cached of it.
type openDisk struct{ *os.File }

// open unmounts what the desktop has mounted by itself, and takes the disk;
// macOS asks the user whether this program may.
func (d blockDisk) open() (*openDisk, error) {
	if out, err := exec.Command("diskutil", "unmountDisk", d.Device).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unmount %s: %v: %s", d.Device, err, bytes.TrimSpace(out))
	}
	raw := strings.Replace(d.Device, "/dev/disk", "/dev/rdisk", 1)
	f, err := os.OpenFile(raw, os.O_RDWR|unix.O_EXLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		f, err = authopen(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("you may not write to %s: %v; run with sudo", raw, err)
	}
	return &openDisk{f}, nil
}

// authopen has the system's own program ask for leave and hand the open file
// over (authopen(1)).
func authopen(name string) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "authopen"), os.NewFile(uintptr(pair[1]), "authopen")
	defer ours.Close()
	cmd := exec.Command("/usr/libexec/authopen", "-stdoutpipe", "-o", fmt.Sprint(os.O_RDWR), name)
	cmd.Stdout = theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return nil, err
	}
	data, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], data, oob, 0)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return nil, errors.New("leave was not given")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, errors.New("leave was not given")
	}
	return os.NewFile(uintptr(fds[0]), name), nil
}

// announce lets the desktop look at the disk again.
func (o *openDisk) announce() {}
