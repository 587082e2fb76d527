package modbus

import (
	"context"
	"fmt"

	gridx "github.com/grid-x/modbus"

	"github.com/waysideos/wayside/services/connect"
)

const illegalFunction = gridx.ExceptionCodeIllegalFunction

// splittable says whether an exception may be the fault of a part of a
// request. Devices say all three of a register they do not have, and the
// second also of a request that is too long for them.
func splittable(code byte) bool {
	switch code {
	case gridx.ExceptionCodeIllegalDataAddress, gridx.ExceptionCodeIllegalDataValue, gridx.ExceptionCodeServerDeviceFailure:
		return true
	}
	return false
}

// write writes a point and returns what it holds then.
func (s *session) write(ctx context.Context, cmd connect.Command) (any, error) {
	p := s.find(cmd.Point)
	switch {
	case p == nil:
		return nil, fmt.Errorf("no point %q", cmd.Point)
	case !p.writable:
		return nil, fmt.Errorf("point %q is not writable by the profile", cmd.Point)
	}
	raw, err := p.encode(cmd.Value)
	if err != nil {
		return nil, err
	}
	if err := s.link.write(ctx, p, raw); err != nil {
		if exception(err) == 0 {
			return nil, fmt.Errorf("no answer, the value may have been written: %v", err)
		}
		return nil, err
	}
	wrote, err := p.decode(raw)
	if err != nil || !p.readBack {
		return wrote, err
	}
	sp := spanOf([]*point{p})
	answer, err := s.link.read(ctx, sp)
	if err != nil {
		return nil, fmt.Errorf("written, but not read back: %v", err)
	}
	part, _ := sp.cut(p, answer)
	got, err := p.decode(part)
	if err != nil || got != wrote {
		return nil, fmt.Errorf("written as %v, but reads back as %v", wrote, got)
	}
	return got, nil
}

func (s *session) find(name string) *point {
	for _, p := range s.points {
		if p.name == name {
			return p
		}
	}
	return nil
}
