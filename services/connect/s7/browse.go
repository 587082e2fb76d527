package s7

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/waysideos/wayside/services/connect"
)

// Block functions of user data jobs.
const (
	listBlocks  = 2
	blockInfo   = 3
	blockOfData = 'A' // DB
)

// Browse lists the data blocks of the PLC with their lengths, each with its
// first byte as a point. Which values lie in a block a PLC does not say.
func (c *Connector) Browse(ctx context.Context, box *connect.Box, w io.Writer) error {
	l, err := dial(ctx, &c.cfg, c.timeout)
	if err != nil {
		return fmt.Errorf("talk to %s: %v", c.cfg.Address, err)
	}
	defer l.close()
	blocks, err := l.dataBlocks()
	if err != nil {
		return fmt.Errorf("list data blocks: %v", err)
	}
	fmt.Fprintln(w, "points:")
	for _, n := range blocks {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		what := "length unknown: it may have optimised access, which cannot be read"
		if size, err := l.blockSize(n); err == nil {
			what = fmt.Sprintf("%d bytes", size)
		}
		if _, err := fmt.Fprintf(w, "  - {name: db%d, address: DB%d.DBB0 BYTE}  # %s\n", n, n, what); err != nil {
			return err
		}
	}
	return nil
}

// maxParts bounds a list of blocks: a PLC has at most 65535.
const maxParts = 2000

// dataBlocks are the numbers of all data blocks, sorted.
func (l *link) dataBlocks() ([]int, error) {
	var blocks []int
	params := []byte{0, 1, 0x12, 4, 0x11, 0x43, listBlocks, 0}
	data := []byte{0xff, 9, 0, 2, '0', blockOfData}
	for range maxParts {
		answer, err := l.userData(params, data)
		if err != nil {
			return nil, err
		}
		for b := answer.data; len(b) >= 4; b = b[4:] {
			blocks = append(blocks, int(binary.BigEndian.Uint16(b)))
		}
		if answer.last {
			break
		}
		params = []byte{0, 1, 0x12, 8, 0x12, 0x43, listBlocks, answer.sequence, 0, 0, 0, 0}
		data = []byte{10, 0, 0, 0}
	}
	slices.Sort(blocks)
	return slices.Compact(blocks), nil
}

// blockSize is how many bytes of values a data block has.
func (l *link) blockSize(n int) (int, error) {
	data := append([]byte{0xff, 9, 0, 8, '0', blockOfData}, fmt.Sprintf("%05dA", n)...)
	answer, err := l.userData([]byte{0, 1, 0x12, 4, 0x11, 0x43, blockInfo, 0}, data)
	if err != nil {
		return 0, err
	}
	const mc7 = 40 // of the block's description
	if len(answer.data) < mc7+2 {
		return 0, errMalformed
	}
	return int(binary.BigEndian.Uint16(answer.data[mc7:])), nil
}

// part is one answer to a user data job.
type part struct {
	sequence byte
	last     bool
	data     []byte
}

func (l *link) userData(params, data []byte) (part, error) {
	l.ref++
	b := job(l.ref, params, data)
	b[isoSize+1] = 7 // user data
	answer, err := l.handler.Send(b)
	if err != nil {
		return part{}, err
	}
	return userDataAnswer(answer)
}

func userDataAnswer(b []byte) (part, error) {
	const paramSize = 12
	if len(b) < isoSize+headSize+paramSize+4 || b[isoSize] != 0x32 || b[isoSize+1] != 7 {
		return part{}, errMalformed
	}
	if e := binary.BigEndian.Uint16(b[isoSize+headSize+10:]); e != 0 {
		return part{}, jobError(e)
	}
	p := part{sequence: b[isoSize+headSize+7], last: b[isoSize+headSize+9] == 0}
	data := b[isoSize+headSize+paramSize:]
	if data[0] != codeOK {
		return part{}, itemError(data[0])
	}
	size := int(binary.BigEndian.Uint16(data[2:]))
	if size > len(data)-4 {
		return part{}, errMalformed
	}
	p.data = data[4 : 4+size]
	return p, nil
}
