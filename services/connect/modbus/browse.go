package modbus

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const (
	browseBlock = 100   // asked for at once
	browseEnd   = 10000 // the first number that is not asked for
	// browseQuiet ends a table: so many numbers in a row did not answer.
	browseQuiet = 500
)

// Browse writes points for every register and bit below 10000 that answers,
// with what it holds now. What a device has in great gaps it does not find.
func (c *Connector) Browse(ctx context.Context, box *connect.Box, w io.Writer) error {
	units := []byte{byte(c.cfg.Unit)}
	for _, p := range c.points {
		if !slices.Contains(units, p.unit) {
			units = append(units, p.unit)
		}
	}
	l := open(ctx, c.cfg, c.timeout, c.pause)
	defer l.close()
	b := &browser{link: l, w: w, most: c.limits}
	fmt.Fprintln(w, "points:")
	for _, unit := range units {
		for _, table := range []site.ModbusTable{site.ModbusHolding, site.ModbusInput, site.ModbusCoil, site.ModbusDiscrete} {
			if err := b.table(ctx, unit, table); err != nil {
				return fmt.Errorf("browse %s of unit %d: %v", table, unit, err)
			}
		}
	}
	return nil
}

type browser struct {
	link  *link
	w     io.Writer
	most  limits
	quiet int // numbers in a row that did not answer
}

func (b *browser) table(ctx context.Context, unit byte, table site.ModbusTable) error {
	most, _ := b.most.of(table)
	block := min(browseBlock, most)
	b.quiet = 0
	for at := 0; at < browseEnd && b.quiet < browseQuiet; at += block {
		s := &span{unit: unit, table: table, start: uint16(at), count: block}
		if err := b.block(ctx, s); exception(err) == illegalFunction {
			return nil // the device has no such table
		} else if err != nil {
			return err
		}
	}
	return nil
}

// block asks for a span, and for its halves where the device refuses.
func (b *browser) block(ctx context.Context, s *span) error {
	answer, err := b.link.read(ctx, s)
	switch code := exception(err); {
	case err == nil:
		b.quiet = 0
		return b.show(s, answer)
	case !splittable(code):
		return err
	case s.count == 1:
		b.quiet++
		return nil
	}
	a, z := *s, *s
	a.count = s.count / 2
	z.start, z.count = s.start+uint16(a.count), s.count-a.count
	if err := b.block(ctx, &a); err != nil {
		return err
	}
	return b.block(ctx, &z)
}

func (b *browser) show(s *span, answer []byte) error {
	for i := range s.count {
		p := &point{address: site.ModbusAddress{Table: s.table, Number: s.start + uint16(i), Bit: -1}}
		p.codec = codec{registers: 1, bit: -1}
		if s.table.Bits() {
			p.registers = 0
		}
		v, _ := s.cut(p, answer)
		line := fmt.Sprintf("  - {name: %s-%d, address: \"%s\"", s.table, p.address.Number, p.address)
		if s.unit != 1 {
			line = fmt.Sprintf("  - {name: unit-%d-%s-%d, address: \"%s\", unit_id: %d", s.unit, s.table, p.address.Number, p.address, s.unit)
		}
		if _, err := fmt.Fprintf(b.w, "%s}  # %d\n", line, new(big.Int).SetBytes(v)); err != nil {
			return err
		}
	}
	return nil
}
