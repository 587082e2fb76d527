package s7

import (
	"fmt"
	"slices"

	"github.com/waysideos/wayside/services/connect"
)

// write writes a point and returns what the PLC holds then.
func (s *session) write(cmd connect.Command) (any, error) {
	at := slices.IndexFunc(s.points, func(p *point) bool { return p.name == cmd.Point })
	if at < 0 {
		return nil, fmt.Errorf("no point %q", cmd.Point)
	}
	p := s.points[at]
	if !p.writable {
		return nil, fmt.Errorf("point %q is not writable by the profile", cmd.Point)
	}
	raw, err := p.encode(cmd.Value)
	if err != nil {
		return nil, err
	}
	to := item{area: p.Area, db: p.DB, start: p.Start, size: len(raw), bit: -1}
	if p.Type == "BOOL" {
		to.bit = p.Bit
	}
	if err := s.link.write(to, raw); err != nil {
		return nil, err
	}
	wrote := raw
	if p.Type == "BOOL" {
		wrote = []byte{raw[0] << p.Bit}
	}
	want, err := p.decode(wrote)
	if err != nil || !p.readBack {
		return want, err
	}
	c := pieceOf([]*point{p}, mostOf(s.link.pdu()))
	results, err := s.link.read([]item{c.item})
	if err == nil {
		err = itemError(results[0].code)
	}
	if err != nil {
		return nil, fmt.Errorf("written, but not read back: %v", err)
	}
	got, err := p.decode(results[0].data)
	if err != nil || got != want {
		return nil, fmt.Errorf("written as %v, but reads back as %v", want, got)
	}
	return got, nil
}
