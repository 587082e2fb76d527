package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu"
)

// bootable is an image and what QEMU boots it with.
type bootable struct {
	board    boards.Board
	image    string
	firmware qemu.Firmware
}

// buildOrFetch is where the image comes from: a build, or the file given and
// the firmware of its board.
func (r *runner) buildOrFetch(ctx context.Context) (bootable, error) {
	log := r.report.log()
	board, err := boards.Get(r.build.board)
	if err != nil {
		return bootable{}, err
	}
	if board.QEMU == nil {
		return bootable{}, fmt.Errorf("board %s cannot be played by QEMU; run --board qemu-x86_64", board.Slug)
	}
	if _, err := qemu.Find(ctx, board.QEMU.System); err != nil {
		return bootable{}, err
	}
	if r.image == "" {
		res, err := buildImage(ctx, r.build, log)
		if err != nil {
			return bootable{}, err
		}
		return bootable{board: board, image: res.Path, firmware: *res.Firmware}, nil
	}
	if st, err := os.Stat(r.image); err != nil {
		return bootable{}, fmt.Errorf("open image: %v", err)
	} else if st.IsDir() {
		return bootable{}, fmt.Errorf("open image: %s is a folder", r.image)
	}
	firmware, err := fetchFirmware(ctx, r.build.archive, board, log)
	return bootable{board: board, image: r.image, firmware: firmware}, err
}

// fetchFirmware gets the package with the board's firmware from the cache or
// the mirror.
func fetchFirmware(ctx context.Context, archive archiveFlags, board boards.Board, log io.Writer) (qemu.Firmware, error) {
	lock, err := archive.readLock()
	if err != nil {
		return qemu.Firmware{}, err
	}
	fetch := newFetchLine(log)
	defer fetch.end()
	store, err := archive.store(lock, log, fetch.update)
	if err != nil {
		return qemu.Firmware{}, err
	}
	return boardFirmware(ctx, store, lock, board)
}

// runPorts are the services of the box and their ports.
var runPorts = []struct {
	name  string
	guest int
}{{"kafka", 9092}, {"mqtt", 1883}, {"console", 8080}}

// runForwards maps every service to a port on the host, see --port-base.
func runForwards(base int) []qemu.Forward {
	var all []qemu.Forward
	for i, p := range runPorts {
		port := p.guest
		switch {
		case base == 0:
			port = 0
		case base > 0:
			port = base + i
		}
		all = append(all, qemu.Forward{
			Name: p.name, Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Guest: p.guest,
		})
	}
	return all
}

func checkPorts(forwards []qemu.Forward) error { return portHint(qemu.CheckPorts(forwards)) }

// portHint adds what to do to an error about a taken port.
func portHint(err error) error {
	var port *qemu.PortError
	if !errors.As(err, &port) {
		return err
	}
	return fmt.Errorf("%v; give --port-base N for ports N to N+2, or --port-base 0 for any free ones", err)
}
